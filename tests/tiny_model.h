#pragma once
#include <ostream>

#include "supra/model.h"
#include "tensor/random.h"

namespace supra {

// A model small enough for a test, of the shape that shows the most: grouped queries, odd sizes.
inline Config tiny_config(MixerKind mixer) {
  Config c;
  c.vocab = 61;
  c.width = 24;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = c.key_dim = 6;
  c.value_dim = 6;
  c.mlp_width = 40;
  c.context = 64;
  c.mixers = {mixer, mixer};
  if (mixer == MixerKind::window) {
    c.windows = {5, 12};
    c.sinks = 2;
  }
  if (mixer == MixerKind::delta) {
    c.decay.source = DecayConfig::Source::gated;
    c.feature_map = false;
  }
  return c;
}

// Ids of its vocabulary.
inline std::vector<int32_t> random_ids(Philox& random, int64_t n) {
  std::vector<int32_t> ids(n);
  for (int32_t& id : ids) id = static_cast<int32_t>(random.below(61));
  return ids;
}

// The mixers there are, and what may differ in a SUPRA or delta layer: what is proven of one is proven of all.
struct MixerVariant {
  const char* name;
  MixerKind kind = MixerKind::supra;
  void (*change)(Config& config) = [](Config&) {};
};

inline void PrintTo(const MixerVariant& variant, std::ostream* out) { *out << variant.name; }

inline const std::vector<MixerVariant>& mixer_variants() {
  using Source = DecayConfig::Source;
  static const auto supra = MixerKind::supra;
  static const std::vector<MixerVariant> variants = {
      {"softmax", MixerKind::softmax},
      // as Gemma's layers
      {"softmax_capped", MixerKind::softmax,
       [](Config& c) {
         c.residual = Residual::both_norms;
         c.qk_norm = QkNorm::per_head;
         c.mlp = MlpKind::packed_geglu;
         c.gelu = Gelu::tanh;
         c.windows = {7, 0};
         c.turns = {Turn::local, Turn::rope};
         c.local_rope_base = 500;
         c.embedding_scale = 3;
         c.score_scale = 0.7;
         c.score_cap = 0.9;
         c.logit_cap = 2;
         c.tied = true;
       }},
      {"supra"},
      {"one_map", supra, [](Config& c) { c.kv_heads = c.heads; }},
      {"per_head_map", supra, [](Config& c) { c.per_head_feature_map = true; }},
      {"no_decay", supra, [](Config& c) { c.decay.kind = DecayConfig::Kind::none; }},
      {"retnet", supra, [](Config& c) { c.decay.kind = DecayConfig::Kind::retnet; }},
      {"learned_decay", supra, [](Config& c) { c.decay.source = Source::learned; }},
      {"gated", supra, [](Config& c) { c.decay.source = Source::gated; }},
      {"denominator", supra, [](Config& c) { c.output_norm = OutputNorm::denominator; }},
      {"output_gate_without_norm", supra,
       [](Config& c) {
         c.output_norm = OutputNorm::none;
         c.output_gate = true;
       }},
      {"rope_before_map", supra, [](Config& c) { c.rope_before_map = true; }},
      {"wide_keys", supra, [](Config& c) { c.key_dim = 2 * c.head_dim; }},
      {"norm_per_head", supra, [](Config& c) { c.qk_norm = QkNorm::per_head; }},
      // T2R (arXiv 2103.13076)
      {"t2r", supra,
       [](Config& c) {
         c.decay.kind = DecayConfig::Kind::none;
         c.per_head_feature_map = c.rope_before_map = true;
         c.output_norm = OutputNorm::denominator;
       }},
      {"everything", supra,
       [](Config& c) {
         c.decay.source = Source::gated;
         c.key_dim = 2 * c.head_dim;
         c.output_gate = true;
         c.qk_norm = QkNorm::whole;
       }},
      {"everything_one_map", supra,
       [](Config& c) {
         c.kv_heads = c.heads;
         c.decay.source = Source::gated;
         c.key_dim = 2 * c.head_dim;
         c.output_gate = true;
         c.qk_norm = QkNorm::whole;
       }},
      {"no_map_no_rope", supra,
       [](Config& c) {
         c.decay.source = Source::gated;
         c.feature_map = c.rotates = false;
       }},
      // as Command R's layers, with what OLMo, Granite and SmolLM3 have
      {"clipped", supra,
       [](Config& c) {
         c.residual = Residual::one_norm;
         c.norm = {NormConfig::Kind::layer, true, false, 1e-5};
         c.residual_scale = 0.4;
         c.logit_scale = 0.25;
         c.qkv_clip = 0.8;
         c.turns = {Turn::rope, Turn::none};
       }},
      {"delta", MixerKind::delta},
      {"delta_one_head_each", MixerKind::delta, [](Config& c) { c.kv_heads = c.heads; }},
      {"delta_without_rope_and_norm", MixerKind::delta,
       [](Config& c) {
         c.rotates = false;
         c.output_norm = OutputNorm::none;
         c.output_gate = true;
       }},
      {"delta_convolution", MixerKind::delta, [](Config& c) { c.short_convolution = true; }},
      {"delta_wide_keys", MixerKind::delta,
       [](Config& c) {
         c.feature_map = true;
         c.key_dim = 2 * c.head_dim;
         c.qk_norm = QkNorm::whole;
       }},
      {"window", MixerKind::window},
      {"window_far", MixerKind::window, [](Config& c) {
         c.windows = {9, 17};
         c.far_features = {8, 4};
         c.qk_norm = QkNorm::per_head;
       }},
      {"window_capped", MixerKind::window, [](Config& c) {
         c.windows = {9, 17};
         c.far_features = {8, 4};
         c.qkv_clip = 1;
         c.score_scale = 0.7;
         c.score_cap = 0.9;
       }},
      {"window_far_without_sinks", MixerKind::window, [](Config& c) {
         c.kv_heads = c.heads;
         c.sinks = 0;
         c.far_features = {6, 0};
       }}};
  return variants;
}

// Those that the GPU has kernels for.
inline std::vector<MixerVariant> gpu_variants() {
  std::vector<MixerVariant> some = mixer_variants();
  std::erase_if(some, [](const MixerVariant& variant) { return variant.kind == MixerKind::delta; });
  return some;
}

// Outputs over a sum of weights that may cross zero: nothing bounds what it makes of rounding.
inline bool is_unbounded(const Config& c) {
  return c.output_norm == OutputNorm::denominator && !c.rope_before_map;
}

inline Config tiny_config(const MixerVariant& variant) {
  Config config = tiny_config(variant.kind);
  variant.change(config);
  return config;
}

// The same, wide enough for whole blocks of quantized weights; three of them in a row of the MLP's second
// matrix.
inline Config block_config(const MixerVariant& variant) {
  Config config = tiny_config(variant.kind);
  config.width = 64;
  config.head_dim = config.key_dim = config.value_dim = 16;
  config.mlp_width = 96;
  variant.change(config);
  return config;
}

// Weights as at the start of a training, and noise on those that start neutral: gates that do nothing prove
// nothing.
inline std::shared_ptr<Decoder> stirred_decoder(const Config& config, uint64_t seed = 3) {
  const auto decoder = make_decoder(config);
  decoder->init_weights(seed);
  Philox random(seed + 1);
  decoder->visit([&](const std::string& name, Var& parameter) {
    if (name.find("_totrain_") == std::string::npos) return;
    for (int64_t i = 0; i < parameter.numel(); i++)
      parameter.value().data<float>()[i] += static_cast<float>(0.2 * random.normal());
  });
  return decoder;
}

inline std::shared_ptr<Decoder> tiny_decoder(MixerKind mixer, uint64_t seed = 3) {
  auto decoder = make_decoder(tiny_config(mixer));
  decoder->init_weights(seed);
  return decoder;
}

// The same with raw bytes for tokens.
inline Model byte_model(MixerKind mixer, uint64_t seed = 5) {
  Config config = tiny_config(mixer);
  config.vocab = 256;
  Model model;
  model.decoder = make_decoder(config);
  model.decoder->init_weights(seed);
  model.tokenizer = load_tokenizer("bytes");
  return model;
}

}  // namespace supra
