#include "nn/config.h"

#include <algorithm>
#include <cmath>

namespace supra {

// Of a real number that means a size or a rate.
static bool positive(double x) { return x > 0 && std::isfinite(x); }

void check_config(const Config& c, const std::string& where) {
  const char* at = where.c_str();
  const struct {
    const char* name;
    int64_t value, most;
  } counts[] = {{"layers", c.layers, kMostLayers},   {"heads", c.heads, 1 << 20},
                {"vocabulary", c.vocab, INT32_MAX},  {"width", c.width, 1 << 28},
                {"kv heads", c.kv_heads, c.heads},   {"head dim", c.head_dim, 1 << 28},
                {"key dim", c.key_dim, 1 << 28},     {"value dim", c.value_dim, 1 << 28},
                {"MLP width", c.mlp_width, 1 << 28}, {"context", c.context, INT32_MAX}};
  for (const auto& count : counts) {
    CHECK(count.value >= 1 && count.value <= count.most, "%s: %s is %ld, expected 1 to %ld", at, count.name,
          static_cast<long>(count.value), static_cast<long>(count.most));
  }
  CHECK(c.heads % c.kv_heads == 0, "%s: %ld heads do not share %ld kv heads evenly", at,
        static_cast<long>(c.heads), static_cast<long>(c.kv_heads));
  CHECK(static_cast<int64_t>(c.mixers.size()) == c.layers, "%s: %zu mixers for %ld layers", at,
        c.mixers.size(), static_cast<long>(c.layers));
  CHECK(c.windows.empty() || static_cast<int64_t>(c.windows.size()) == c.layers, "%s: %zu windows for %ld layers", at,
        c.windows.size(), static_cast<long>(c.layers));
  for (const int64_t window : c.windows) CHECK(window >= 0, "%s: a window of %ld tokens", at, static_cast<long>(window));
  CHECK(c.far_features.empty() || static_cast<int64_t>(c.far_features.size()) == c.layers, "%s: far features for %zu of %ld layers", at,
        c.far_features.size(), static_cast<long>(c.layers));
  for (const int64_t features : c.far_features) {
    CHECK(features >= 0 && features % 2 == 0 && features <= 1 << 16, "%s: %ld far features, expected an even number from 0 to 65536", at, static_cast<long>(features));
  }
  CHECK(c.sinks >= 0 && c.sinks <= 64, "%s: %ld attention sinks, expected 0 to 64", at, static_cast<long>(c.sinks));
  for (size_t i = 0; i < c.mixers.size(); i++) {
    if (c.mixers[i] != MixerKind::window) continue;
    const int64_t window = c.windows.empty() ? 0 : c.windows[i];
    CHECK(window > 0 && window <= INT32_MAX, "%s: layer %zu has a sliding window of %ld keys, expected 1 to %d", at, i, static_cast<long>(window), INT32_MAX);
    CHECK(c.key_dim == c.head_dim, "%s: %ld dimensions of a key, %ld of its projection: layer %zu has a window, whose are the same", at,
          static_cast<long>(c.key_dim), static_cast<long>(c.head_dim), i);
  }
  CHECK(c.feature_map || c.key_dim == c.head_dim, "%s: %ld dimensions of a key, %ld of its projection: only a feature map changes them", at,
        static_cast<long>(c.key_dim), static_cast<long>(c.head_dim));
  if (std::count(c.mixers.begin(), c.mixers.end(), MixerKind::delta) > 0) {
    CHECK(c.decay.source == DecayConfig::Source::gated, "%s: a delta layer's decays follow each token (decay.source gated)", at);
    CHECK(c.output_norm != OutputNorm::denominator, "%s: the weights of a delta layer have no sum to divide by (output_norm group or none)", at);
  }
  CHECK(c.lora.rank >= 0 && c.lora.rank <= 1 << 20 && positive(c.lora.alpha), "%s: LoRA of rank %ld and alpha %g, expected positive numbers", at,
        static_cast<long>(c.lora.rank), c.lora.alpha);
  CHECK(positive(c.norm.eps), "%s: the norm's epsilon is %g, it must be positive", at,
        c.norm.eps);
  const struct {
    const char* name;
    double value;
    bool may_be_none;
  } scales[] = {{"scale of embeddings", c.embedding_scale, false}, {"scale of branches", c.residual_scale, false},
                {"scale of logits", c.logit_scale, false},         {"local rotary base", c.local_rope_base, false},
                {"scale of scores", c.score_scale, true},          {"cap of scores", c.score_cap, true},
                {"cap of logits", c.logit_cap, true},              {"bound of q, k and v", c.qkv_clip, true}};
  for (const auto& scale : scales) {
    CHECK(positive(scale.value) || (scale.may_be_none && scale.value == 0), "%s: the %s is %g, it must be positive%s", at, scale.name,
          scale.value, scale.may_be_none ? ", or 0 for none" : "");
  }
  CHECK(c.turns.empty() || static_cast<int64_t>(c.turns.size()) == c.layers, "%s: rotations for %zu of %ld layers", at, c.turns.size(),
        static_cast<long>(c.layers));
  const double start = c.decay.start.value_or(1);
  CHECK(positive(start), "%s: the first decay slope is %g, it must be positive", at, start);
  if (c.rope.layout == Rope::Layout::none) return;

  const bool valid =
      positive(c.rope.base) && positive(c.rope.scale) && positive(c.rope.magnitude) &&
      std::all_of(c.rope.divisors.begin(), c.rope.divisors.end(), positive) &&
      std::all_of(c.rope.long_divisors.begin(), c.rope.long_divisors.end(), positive) && c.rope.trained >= 0 && c.rope.dynamic >= 0;
  CHECK(valid, "%s: rotary base %g, scale %g, magnitude %g and all divisors must be positive", at, c.rope.base,
        c.rope.scale, c.rope.magnitude);
  const int64_t supra_dim = c.rope_before_map ? c.head_dim : c.key_dim;
  for (const MixerKind kind : c.mixers) {
    if (has_head_state(kind) && !c.rotates) continue;
    const int64_t dim = has_head_state(kind) ? supra_dim : c.head_dim;
    const int64_t rotated = c.rope.dims == 0 ? dim : c.rope.dims;
    CHECK(rotated > 0 && rotated <= dim && rotated % 2 == 0,
          "%s: %ld of %ld dimensions of a head are to be rotated in pairs", at, static_cast<long>(rotated),
          static_cast<long>(dim));
    for (const auto& divisors : {c.rope.divisors, c.rope.long_divisors}) {
      CHECK(divisors.empty() || static_cast<int64_t>(divisors.size()) == rotated / 2, "%s: %zu divisors of rotary frequencies for %ld pairs",
            at, divisors.size(), static_cast<long>(rotated / 2));
    }
  }
}

Rope rope_of(const Config& c, int64_t layer) {
  Rope rope = c.rope;
  const Turn turn = c.turns.empty() ? Turn::rope : c.turns[layer];
  if (turn == Turn::none) rope.layout = Rope::Layout::none;
  if (turn == Turn::local) rope = {.layout = c.rope.layout, .base = c.local_rope_base, .dims = c.rope.dims};
  return rope;
}

bool has_head_states(const Config& config) { return std::any_of(config.mixers.begin(), config.mixers.end(), has_head_state); }

bool is_window_student(const Config& config) {
  return std::count(config.mixers.begin(), config.mixers.end(), MixerKind::window) > 0 && !has_head_states(config);
}

void check_recurrent(const Config& config, const std::string& where) {
  for (size_t i = 0; i < config.mixers.size(); i++) {
    CHECK(config.mixers[i] != MixerKind::softmax,
          "%s: layer %zu has softmax attention, whose memory grows with the text; all layers must be recurrent "
          "(supra linearize makes them so)",
          where.c_str(), i);
  }
}

}  // namespace supra
