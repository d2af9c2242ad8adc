#include "supra/formats/parameters.h"

namespace supra {

std::vector<Parameter> parameters_of(const Config& c) {
  std::vector<Parameter> all;
  auto linear = [&](const std::string& path, Shape shape, bool bias, std::vector<int64_t> parts = {}) {
    const int64_t rows = shape[0];
    all.push_back({path + ".weight", std::move(shape), std::move(parts)});
    if (bias) all.push_back({path + ".bias", {rows}, {}});
  };
  auto norm = [&](const std::string& path, int64_t width) {
    if (c.norm.weight) all.push_back({path + ".weight", {width}, {}});
    if (c.norm.bias) all.push_back({path + ".bias", {width}, {}});
  };

  const int64_t H = c.heads, G = c.kv_heads;
  linear("tok_embeddings", {c.vocab, c.width}, false);
  if (c.post_embed_norm) norm("post_embed_norm", c.width);
  for (int64_t i = 0; i < c.layers; i++) {
    const std::string layer = "layers." + std::to_string(i) + ".", attention = layer + "attention.",
                      mlp = layer + "feed_forward.";
    const bool supra = c.mixers[i] == MixerKind::supra;
    norm(layer + "attention_norm", c.width);
    const int64_t q = H * c.head_dim, k = G * c.head_dim, v = G * c.value_dim;
    linear(attention + "in_proj", {q + k + v, c.width}, false, {q, k, v});
    if (supra) {
      const bool apart = c.per_head_feature_map;
      linear(attention + "_totrain_embed", {H * c.key_dim, apart ? c.head_dim : q}, true);
      if (G != H) linear(attention + "_totrain_embed_kv", {G * c.key_dim, apart ? c.head_dim : k}, true);
    }
    if (c.qk_norm) {
      // a SUPRA layer normalises k after it was repeated for every head
      norm(attention + (supra ? "_totrain_q_norm" : "q_norm"), supra ? H * c.key_dim : q);
      norm(attention + (supra ? "_totrain_k_norm" : "k_norm"), supra ? H * c.key_dim : k);
    }
    linear(attention + "out_proj", {c.width, H * c.value_dim}, false);

    norm(layer + "ffn_norm", c.width);
    switch (c.mlp) {
      case MlpKind::swiglu:
        linear(mlp + "w12", {2 * c.mlp_width, c.width}, false, {c.mlp_width, c.mlp_width});
        linear(mlp + "w3", {c.width, c.mlp_width}, false);
        break;
      case MlpKind::gelu:
        linear(layer + "_ff_w1", {c.mlp_width, c.width}, false);
        linear(layer + "_ff_w2", {c.width, c.mlp_width}, false);
        break;
      case MlpKind::geglu:
        linear(mlp + "gate_proj", {c.mlp_width, c.width}, true);
        linear(mlp + "up_proj", {c.mlp_width, c.width}, true);
        linear(mlp + "down_proj", {c.width, c.mlp_width}, true);
        break;
    }
  }
  norm("norm", c.width);
  if (!c.tied) linear("output", {c.vocab, c.width}, false);
  return all;
}

}  // namespace supra
