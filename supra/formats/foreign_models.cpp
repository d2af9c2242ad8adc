#include "supra/formats/foreign_models.h"

#include <algorithm>

#include "supra/formats/config/gguf_config.h"
#include "supra/formats/config/hf_config.h"
#include "supra/formats/weights/gguf.h"
#include "supra/formats/weights/llama2c.h"
#include "supra/formats/weights/weight_files.h"

namespace supra {

ModelSource open_gguf(const Path& path) {
  auto file = std::make_unique<Gguf>(path);
  const Config config = read_gguf_config(*file);
  const Family& family = family_by(&Family::architecture, config.family, path.string());
  return source_of(path, "GGUF (" + config.family + ")", config, std::move(file), gguf_names(family));
}

std::unique_ptr<WeightReader> open_gguf_file(const Path& path) { return std::make_unique<Gguf>(path); }

ModelSource open_hugging_face(const Path& weights, const Json& json) {
  const Config config = read_hf_config(json);
  const Family& family = family_by(&Family::type, config.family, weights.string());
  return source_of(weights, format("%s (%s)", weight_format(weights), family.type), config, open_weights(weights), hf_names(family));
}

ModelSource open_llama2c(const Path& path) {
  auto file = std::make_unique<Llama2c>(path);
  const Llama2cHeader header = file->header();
  Config c;
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
  ModelSource source = source_of(path, format("llama2.c v%d", header.version), c, std::move(file), meta_names());
  if (header.version == 2) source.notes.push_back("q80 matrices become f32");
  return source;
}

}  // namespace supra
