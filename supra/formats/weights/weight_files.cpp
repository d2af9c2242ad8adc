#include "supra/formats/weights/weight_files.h"

#include "supra/formats/foreign_models.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/formats/weights/shards.h"
#include "supra/formats/weights/torch_file.h"

namespace supra {

static bool is_index(const Path& file) { return file.string().ends_with(".index.json"); }

const char* weight_format(const Path& file) {
  if (is_index(file)) return file.string().ends_with(".bin.index.json") ? "PyTorch" : "safetensors";
  const MappedFile mapped(file);
  const std::string_view text = mapped.text();
  if (text.starts_with("GGUF")) return "GGUF";
  if (text.starts_with("PK\x03\x04")) return "PyTorch";
  // a pickled magic number of ten bytes
  CHECK(!text.starts_with("\x80\x02\x8a\x0a"),
        "%s: is in PyTorch's format before version 1.6, which is not read (load it with a later version and save it again)",
        file.c_str());
  const bool json = text.size() > 8 && text[8] == '{';
  CHECK(json || file.extension() == ".safetensors",
        "%s: is not a file of weights that is read (safetensors, PyTorch's zip files and GGUF are)", file.c_str());
  return "safetensors";
}

std::unique_ptr<WeightReader> open_weights(const Path& file) {
  if (is_index(file)) return open_shards(file);
  const std::string_view format = weight_format(file);
  if (format == "GGUF") return open_gguf_file(file);
  if (format == "PyTorch") return open_torch_file(file);
  return open_safetensors(file);
}

}  // namespace supra
