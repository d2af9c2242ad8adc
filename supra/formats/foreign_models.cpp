#include "supra/formats/foreign_models.h"

#include <algorithm>

#include "supra/formats/gguf.h"
#include "supra/formats/gguf_config.h"
#include "supra/formats/hf_config.h"
#include "supra/formats/llama2c.h"
#include "supra/formats/weight_files.h"

namespace supra {

ModelSource open_gguf(const Path& path) {
  auto file = std::make_unique<Gguf>(path);
  ModelSource source;
  source.path = path;
  const std::string architecture(file->text("general.architecture"));
  source.config = read_gguf_config(*file);
  source.format = "GGUF (" + source.config.family + ")";
  take_weights(source, std::move(file), gguf_family(architecture));
  return source;
}

std::unique_ptr<WeightReader> open_gguf_file(const Path& path) { return std::make_unique<Gguf>(path); }

ModelSource open_hugging_face(const Path& weights, const Json& config) {
  ModelSource source;
  source.config = read_hf_config(config);
  source.path = weights;
  source.format = format("%s (%s)", weight_format(weights), source.config.family.c_str());
  take_weights(source, open_weights(weights), hf_family(source.config.family));
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

}  // namespace supra
