#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "supra/formats/json.h"
#include "tests/support.h"

namespace supra {

// A model of golden/hf or golden/hf2, with what transformers computed.
struct GoldenCase {
  std::filesystem::path folder;
  bool loads;  // false: it has to be refused
};

// Of the sets that are here.
inline std::vector<GoldenCase> golden_hf_cases() {
  std::vector<GoldenCase> cases;
  for (const char* set : {"golden/hf", "golden/hf2"}) {
    const std::filesystem::path golden = shared_dir() / set;
    if (!std::filesystem::exists(golden)) continue;
    const Json json = Json::load(golden / "cases.json");
    for (const Json& entry : (json.is_object() ? json.at("cases") : json).as_array("cases"))
      cases.push_back({golden / entry.text("name"), entry.text("expect") == "load"});
  }
  return cases;
}

// The folder of a model by its name, in the set that has it.
inline std::filesystem::path golden_hf(const std::string& name) {
  const std::filesystem::path newer = shared_dir() / "golden/hf2" / name;
  return std::filesystem::exists(newer) ? newer : shared_dir() / "golden/hf" / name;
}

}  // namespace supra
