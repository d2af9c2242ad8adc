#include "supra/formats/model_source.h"

#include <algorithm>
#include <charconv>

#include "supra/formats/config/config_json.h"
#include "supra/formats/config/openlm_config.h"
#include "supra/formats/foreign_models.h"
#include "supra/formats/renamed_weights.h"
#include "supra/formats/weights/packed_model.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/formats/weights/weight_files.h"

namespace supra {

namespace fs = std::filesystem;

namespace {

// The N in OpenLM's name epoch_N.pt; -1 for another name.
int64_t epoch_of(const Path& file) {
  const std::string name = file.stem();
  int64_t epoch = -1;
  if (name.starts_with("epoch_")) std::from_chars(name.data() + 6, name.data() + name.size(), epoch);
  return epoch;
}

// The weights in a model's folder: by the usual name, or the only file with such an ending, or the last of several epochs.
Path find_weights(const Path& folder) {
  const auto is_other = [](const std::string& name) {
    const auto leads = [&](const char* prefix) { return name.starts_with(prefix); };
    return leads("golden") || leads("optimizer") || leads("stats") || leads("tok") || leads("training_args");
  };
  for (const char* ending : {".safetensors.index.json", ".safetensors", ".bin.index.json", ".bin", ".pt", ".pth", ".gguf"}) {
    std::error_code error;
    const Path usual = folder / (ending == std::string(".bin") ? "pytorch_model.bin" : std::string("model") + ending);
    if (fs::exists(usual, error)) return usual;
    std::vector<Path> found;
    for (const std::string& name : Folder(folder).names()) {
      if (name.ends_with(ending) && !is_other(name)) found.push_back(folder / name);
    }
    if (found.empty()) continue;
    const auto last = std::max_element(found.begin(), found.end(), [](const Path& x, const Path& y) { return epoch_of(x) < epoch_of(y); });
    CHECK(found.size() == 1 || epoch_of(*last) >= 0, "%s: holds several %s files, and none is called %s (give the file)", folder.c_str(), ending,
          usual.filename().c_str());
    return *last;
  }
  fail("%s: holds no weights (expected model.safetensors, or an *.index.json with its shards, a GGUF, or one file of PyTorch's)",
       folder.c_str());
}

// config.json of a folder that `convert --to transformers` or save_pretrained() wrote (transformers_export.h).
Config read_transformers_config(const Json& json) {
  Config config;
  set_fields(config, json.at("supra"));
  check_config(config, json.at("supra").where());
  return config;
}

// Weights in one or several files, and the config.json in their folder.
ModelSource open_with_config(const Path& weights) {
  const Path config_path = weights.parent_path() / "config.json";
  std::error_code error;
  CHECK(fs::exists(config_path, error), "%s: there is no config.json in the folder of these weights", weights.c_str());
  const Json json = Json::load(config_path);
  const std::string type = json.text("model_type", "openlm");
  if (type != "openlm" && type != "supra") return open_hugging_face(weights, json);
  const Config config = type == "supra" ? read_transformers_config(json) : read_openlm_config(json);
  const char* family = type == "supra" ? "transformers" : config.family.c_str();
  return source_of(weights, format("%s (%s)", weight_format(weights), family), config, open_weights(weights), openlm_names());
}

}  // namespace

ModelSource source_of(const Path& path, std::string kind, Config config, std::unique_ptr<WeightReader> file,
                      const TensorNames& names) {
  ModelSource source = {std::move(config), nullptr, path, std::move(kind), {}, {}, file->tensors()};
  std::erase_if(source.stored, [](const TensorInfo& info) { return is_packed_file(info.name); });
  std::vector<std::string> unused;
  source.weights = rename_weights(std::move(file), names, source.config, unused);
  size_t buffers = 0;
  for (const std::string& name : unused) {
    const auto ends = [&](const std::string& ending) { return name.ends_with(ending); };
    if (std::any_of(names.buffers.begin(), names.buffers.end(), ends)) {
      buffers++;
    } else if (source.config.tied && (name == "lm_head.weight" || name == "embed_out.weight" || name.ends_with("output.weight"))) {
      source.notes.push_back(name + " is ignored: the config ties the output to the embedding");
    } else if (!is_packed_file(name)) {
      source.unexpected.push_back(name);
    }
  }
  if (buffers > 0)
    source.notes.push_back(format("%zu buffers (causal masks, rotary frequencies) are ignored: the config has their contents", buffers));
  return source;
}

ModelSource open_packed(const MappedFile& file) {
  CHECK(is_packed(file), "%s: is not a packed model (supra convert MODEL -o model.supra --to packed makes one)", file.path().c_str());
  const MappedFile text = PackedFiles(file).open("config.json");
  const Config config = read_openlm_config(Json::parse(text.text(), text.path().string()));
  return source_of(file.path(), format("packed (%s)", config.family.c_str()), config, open_safetensors(file), openlm_names());
}

ModelSource open_model(const Path& given) {
  std::error_code error;
  const Path path = fs::is_directory(given, error) ? find_weights(given) : given;
  const std::string ending = path.extension();
  const MappedFile file(path);
  const std::string_view text = file.text();
  if (is_packed(file)) return open_packed(file);
  if (text.starts_with("GGUF")) return open_gguf(path);
  const bool torch = text.starts_with("PK\x03\x04") || text.starts_with("\x80\x02") || text.starts_with("\x80\x03");
  const bool named = ending == ".safetensors" || ending == ".json" || ending == ".pt" || ending == ".pth";
  // the last, because not every version of llama2.c's files begins with a magic number
  return torch || named ? open_with_config(path) : open_llama2c(path);
}

}  // namespace supra
