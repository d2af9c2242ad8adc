#include "supra/formats/model_source.h"

#include <algorithm>
#include <charconv>

#include "supra/formats/config/config_json.h"
#include "supra/formats/foreign_models.h"
#include "supra/formats/config/openlm_config.h"
#include "supra/formats/weights/packed_model.h"
#include "supra/formats/renamed_weights.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/formats/weights/weight_files.h"

namespace supra {

namespace fs = std::filesystem;

namespace {

std::vector<Path> files_ending(const Path& folder, const std::string& ending) {
  std::vector<Path> found;
  for (const std::string& name : Folder(folder).names()) {
    if (name.ends_with(ending)) found.push_back(folder / name);
  }
  return found;
}

// N of epoch_N.pt, which OpenLM's training writes; -1 for another name.
int64_t epoch_of(const Path& file) {
  const std::string name = file.stem();
  int64_t epoch = -1;
  if (name.starts_with("epoch_")) std::from_chars(name.data() + 6, name.data() + name.size(), epoch);
  return epoch;
}

// The weights of a model folder: model.safetensors, an index of shards, pytorch_model.bin, the last of several
// epochs, or the one file that can be meant.
Path find_weights(const Path& folder) {
  const auto is_other = [](const Path& file) {
    const std::string name = file.filename();
    const auto leads = [&](const char* prefix) { return name.starts_with(prefix); };
    return leads("golden") || leads("optimizer") || leads("stats") || leads("tok") || leads("training_args");
  };
  for (const char* ending : {".safetensors.index.json", ".safetensors", ".bin.index.json", ".bin", ".pt", ".pth", ".gguf"}) {
    std::error_code error;
    const Path usual = folder / (ending == std::string(".bin") ? "pytorch_model.bin" : std::string("model") + ending);
    if (fs::exists(usual, error)) return usual;
    std::vector<Path> found = files_ending(folder, ending);
    std::erase_if(found, is_other);
    if (found.empty()) continue;
    const auto last = std::max_element(found.begin(), found.end(), [](const Path& x, const Path& y) { return epoch_of(x) < epoch_of(y); });
    CHECK(found.size() == 1 || epoch_of(*last) >= 0, "%s: holds several %s files, and none is called %s", folder.c_str(), ending,
          usual.filename().c_str());
    return *last;
  }
  fail("%s: holds no weights (expected model.safetensors, or an *.index.json with its shards, a GGUF, or one file of PyTorch's)",
       folder.c_str());
}

// config.json of a folder that transformers loads (transformers_export.h), as the program wrote it or save_pretrained().
Config read_transformers_config(const Json& json) {
  Config config;
  set_fields(config, json.at("supra"));
  check_config(config, json.at("supra").where());
  return config;
}

// Weights in a file or several, and the config.json that stands in their folder.
ModelSource open_with_config(const Path& weights) {
  const Path config = weights.parent_path() / "config.json";
  std::error_code error;
  CHECK(fs::exists(config, error), "%s: a config.json has to stand beside these weights", weights.c_str());
  const Json json = Json::load(config);
  const std::string type = json.text("model_type", "openlm");
  if (type != "openlm" && type != "supra") return open_hugging_face(weights, json);
  ModelSource source;
  source.config = type == "supra" ? read_transformers_config(json) : read_openlm_config(json);
  source.path = weights;
  source.format = format("%s (%s)", weight_format(weights), type == "supra" ? "transformers" : source.config.family.c_str());
  take_weights(source, open_weights(weights), openlm_family());
  return source;
}

bool begins_with(const Path& path, std::initializer_list<std::string_view> magics) {
  const MappedFile file(path);
  return std::any_of(magics.begin(), magics.end(), [&](std::string_view magic) { return file.text().starts_with(magic); });
}

}  // namespace

void take_weights(ModelSource& source, std::unique_ptr<WeightReader> file, const Family& family) {
  source.stored = file->tensors();
  std::erase_if(source.stored, [](const TensorInfo& info) { return is_packed_file(info.name); });
  std::vector<std::string> unused;
  source.weights = rename_weights(std::move(file), family, source.config, unused);
  size_t buffers = 0;
  for (const std::string& name : unused) {
    const auto ends = [&](const std::string& ending) { return name.ends_with(ending); };
    if (std::any_of(family.buffers.begin(), family.buffers.end(), ends)) {
      buffers++;
    } else if (source.config.tied && (name == "lm_head.weight" || name == "embed_out.weight" || name.ends_with("output.weight"))) {
      source.notes.push_back(name + " is left aside: the config ties the output to the embedding");
    } else if (!is_packed_file(name)) {
      source.unexpected.push_back(name);
    }
  }
  if (buffers == 0) return;
  source.notes.push_back(format("%zu buffers (causal masks, rotary frequencies) are left aside: the config says what they hold", buffers));
}

ModelSource open_packed(const MappedFile& file) {
  CHECK(is_packed(file), "%s: is no packed model (supra convert MODEL -o model.supra --to packed makes one)", file.path().c_str());
  const MappedFile config = PackedFiles(file).open("config.json");
  ModelSource source;
  source.config = read_openlm_config(Json::parse(config.text(), config.path().string()));
  source.path = file.path();
  source.format = format("packed (%s)", source.config.family.c_str());
  take_weights(source, open_safetensors(file), openlm_family());
  return source;
}

ModelSource open_model(const Path& given) {
  std::error_code error;
  const Path path = fs::is_directory(given, error) ? find_weights(given) : given;
  const std::string ending = path.extension();
  if (const MappedFile file(path); is_packed(file)) return open_packed(file);
  if (begins_with(path, {"GGUF"})) return open_gguf(path);
  // llama2.c's files have no mark of their own in every version
  const bool named = ending == ".safetensors" || ending == ".json" || ending == ".pt" || ending == ".pth";
  if (named || begins_with(path, {"PK\x03\x04", "\x80\x02", "\x80\x03"})) return open_with_config(path);
  return open_llama2c(path);
}

}  // namespace supra
