#include "supra/formats/model_source.h"

#include <algorithm>

#include "supra/formats/gguf_config.h"
#include "supra/formats/hf_config.h"
#include "supra/formats/llama2c.h"
#include "supra/formats/openlm_config.h"
#include "supra/formats/renamed_weights.h"
#include "supra/formats/safetensors.h"

namespace supra {

namespace fs = std::filesystem;

namespace {

// Refuses files of other formats by what they begin with, before a reader complains about them in its own
// terms.
void refuse_known_formats(const Path& path) {
  const MappedFile file(path);
  const std::string_view text = file.text();
  const bool zip = text.starts_with("PK\x03\x04"),
             pickle = text.starts_with("\x80\x02") || text.starts_with("\x80\x03");
  CHECK(!text.starts_with("GGUF"), "%s: GGUF is not read by this version (convert the model to safetensors)",
        path.c_str());
  CHECK(!zip && !pickle,
        "%s: PyTorch's files are not read by this version (convert the model to safetensors)", path.c_str());
  CHECK(path.extension() != ".safetensors" && path.extension() != ".json",
        "%s: is a part of a model (name the folder that holds it and its config.json)", path.c_str());
}

std::vector<Path> files_ending(const Path& folder, const std::string& ending) {
  std::vector<Path> found;
  std::error_code error;
  const fs::directory_iterator entries(folder, error);
  CHECK(!error, "%s: cannot list the folder: %s", folder.c_str(), error.message().c_str());
  for (const auto& entry : entries) {
    if (entry.path().filename().string().ends_with(ending)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The weights of a model folder: model.safetensors, an index of shards, or the one file that can be meant.
Path find_weights(const Path& folder) {
  std::error_code error;
  if (fs::exists(folder / "model.safetensors", error)) return folder / "model.safetensors";
  std::vector<Path> found = files_ending(folder, ".safetensors.index.json");
  if (found.empty()) {
    found = files_ending(folder, ".safetensors");
    std::erase_if(found, [](const Path& file) {
      const std::string name = file.filename();
      return name.starts_with("golden") || name.starts_with("optimizer");
    });
  }
  CHECK(found.size() <= 1, "%s: holds several safetensors files and none is called model.safetensors",
        folder.c_str());
  if (found.size() == 1) return found[0];
  for (const char* ending : {".gguf", ".bin", ".pt", ".pth"}) {
    for (const Path& file : files_ending(folder, ending)) refuse_known_formats(file);
  }
  fail("%s: holds no weights (expected model.safetensors, or *.safetensors.index.json with its shards)",
       folder.c_str());
}

void take_weights(ModelSource& source, std::unique_ptr<WeightReader> file, const Family& family) {
  source.stored = file->tensors();
  std::vector<std::string> unused;
  source.weights = rename_weights(std::move(file), family, source.config, unused);
  size_t buffers = 0;
  for (const std::string& name : unused) {
    const auto ends = [&](const std::string& ending) { return name.ends_with(ending); };
    if (std::any_of(family.buffers.begin(), family.buffers.end(), ends)) {
      buffers++;
    } else if (source.config.tied && (name == "lm_head.weight" || name == "embed_out.weight" || name.ends_with("output.weight"))) {
      source.notes.push_back(name + " is left aside: the config ties the output to the embedding");
    } else {
      source.unexpected.push_back(name);
    }
  }
  if (buffers == 0) return;
  source.notes.push_back(format("%zu buffers (causal masks, rotary frequencies) are left aside: the config says what they hold", buffers));
}

ModelSource open_gguf(const Path& path);

ModelSource open_folder(const Path& folder) {
  const Path config = folder / "config.json";
  // without a config, one file of another format may still be all there is
  std::error_code error;
  if (!fs::exists(config, error)) {
    const std::vector<Path> models = files_ending(folder, ".gguf");
    if (models.size() == 1) return open_gguf(models[0]);
    find_weights(folder);
  }
  const Json json = Json::load(config);
  const bool openlm = json.text("model_type", "openlm") == "openlm";
  ModelSource source;
  source.config = openlm ? read_openlm_config(json) : read_hf_config(json, source.notes);
  source.path = find_weights(folder);
  source.format = "safetensors (" + source.config.family + ")";
  take_weights(source, open_safetensors(source.path), openlm ? openlm_family() : hf_family(source.config.family));
  return source;
}

ModelSource open_llama2c(const Path& path) {
  auto file = std::make_unique<Llama2c>(path);
  const Llama2cHeader header = file->header();
  ModelSource source;
  source.path = path;
  source.format = format("llama2.c v%d", header.version);
  Config& c = source.config;
  c.family = "llama2.c";
  c.width = header.dim;
  c.layers = header.layers;
  c.heads = header.heads;
  c.kv_heads = header.kv_heads;
  c.vocab = header.vocab;
  c.context = header.context;
  c.mlp_width = header.hidden;
  c.tied = header.tied;
  c.head_dim = c.key_dim = c.value_dim = header.dim / header.heads;
  c.rope.layout = Rope::Layout::interleaved;
  c.mixers.assign(static_cast<size_t>(std::min(c.layers, kMostLayers)), MixerKind::softmax);
  check_config(c, path.string());
  take_weights(source, std::move(file), meta_family());
  if (header.version == 2) source.notes.push_back("q80 matrices become f32");
  return source;
}

ModelSource open_gguf(const Path& path) {
  auto file = std::make_unique<Gguf>(path);
  ModelSource source;
  source.path = path;
  source.config = read_gguf_config(*file);
  source.format = "GGUF (" + source.config.family + ")";
  take_weights(source, std::move(file), gguf_family(source.config.family));
  return source;
}

bool is_gguf(const Path& path) { return MappedFile(path).text().starts_with("GGUF"); }

}  // namespace

ModelSource open_model(const Path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return open_folder(path);
  if (is_gguf(path)) return open_gguf(path);
  refuse_known_formats(path);
  return open_llama2c(path);
}

}  // namespace supra
