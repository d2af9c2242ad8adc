#pragma once
#include <fstream>
#include <string>
#include <string_view>

#include "supra/formats/hf_config.h"
#include "supra/formats/json.h"
#include "supra/formats/llama2c.h"
#include "supra/formats/model_source.h"
#include "supra/formats/openlm_config.h"
#include "supra/formats/safetensors.h"
#include "supra/formats/weight_files.h"

// One entry point a parser: bytes go in; what comes back is "" where the parser took them, else its
// complaint. Anything but an Error escapes. A libFuzzer target is one line around each of them.

namespace supra {

template <class F>
std::string complaint_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Not a FileWriter: that waits for the disk, which thousands of damaged files need not. Removed first, for
// ext4 waits for it too where a file is cut to nothing and written again.
inline void write_bytes(const Path& path, std::string_view bytes) {
  std::filesystem::remove(path);
  std::ofstream out(path, std::ios::binary);
  out << bytes;
  out.close();
  CHECK(out.good(), "cannot write %s", path.c_str());
}

// Reads every tensor that can be read.
inline void read_all(const WeightReader& weights) {
  for (const TensorInfo& info : weights.tensors()) {
    complaint_of([&] { check_finite(weights.get(info.name), info.name, weights.path()); });
  }
}

// GGUF, PyTorch's files and safetensors, told apart by their first bytes.
inline std::string fuzz_weights(std::string_view bytes, const Path& scratch) {
  write_bytes(scratch, bytes);
  return complaint_of([&] { read_all(*open_weights(scratch)); });
}

inline std::string fuzz_json(std::string_view bytes) {
  return complaint_of([&] {
    const Json json = Json::parse(bytes, "fuzz.json");
    CHECK(Json::parse(json.dump(), "again") == json && Json::parse(json.dump(true), "again") == json,
          "a value changes when it is written and read");
  });
}

inline std::string fuzz_safetensors(std::string_view bytes, const Path& scratch) {
  write_bytes(scratch, bytes);
  return complaint_of([&] { read_all(*open_safetensors(scratch)); });
}

inline std::string fuzz_llama2c(std::string_view bytes, const Path& scratch) {
  write_bytes(scratch, bytes);
  return complaint_of([&] { read_all(Llama2c(scratch)); });
}

inline std::string fuzz_config(std::string_view bytes) {
  return complaint_of([&] {
    const Json json = Json::parse(bytes, "fuzz/config.json");
    std::vector<std::string> notes;
    const Config config = json.find("model_type") ? read_hf_config(json) : read_openlm_config(json);
    write_openlm_config(config);
  });
}

}  // namespace supra
