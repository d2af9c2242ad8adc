#include "supra/formats/checkpoint.h"

#include <unordered_map>

#include "supra/formats/config/openlm_config.h"
#include "supra/formats/parameters.h"
#include "supra/formats/weights/safetensors.h"

namespace supra {

void check_complete(const Path& path, const Config& config, const NamedTensors& weights) {
  const char* where = path.c_str();
  check_config(config, path.string());
  std::unordered_map<std::string, const Shape*> given;
  for (const auto& [name, tensor] : weights) given[name] = &tensor.shape();
  const std::vector<Parameter> parameters = parameters_of(config);
  for (const Parameter& parameter : parameters) {
    const auto found = given.find(parameter.name);
    CHECK(found != given.end(), "%s: cannot save the model, tensor %s is missing", where, parameter.name.c_str());
    CHECK(*found->second == parameter.shape,
          "%s: cannot save the model, tensor %s is %s, the config asks for %s", where, parameter.name.c_str(),
          to_string(*found->second).c_str(), to_string(parameter.shape).c_str());
    given.erase(found);
  }
  CHECK(given.empty(), "%s: cannot save the model, its config has no tensor %s", where, given.begin()->first.c_str());
}

void save_model(const Path& directory, const Config& config, const NamedTensors& weights, std::optional<Dtype> dtype) {
  check_complete(directory, config, weights);
  FileWriter out(directory / "config.json");
  out.write(write_openlm_config(config).dump(true) + "\n");
  out.finish();
  write_safetensors(directory / "model.safetensors", weights, {{"format", "pt"}}, dtype);
}

}  // namespace supra
