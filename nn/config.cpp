#include "nn/config.h"

#include <algorithm>
#include <cmath>

namespace supra {

// For a real number that is a size or a rate.
static bool positive(double x) { return x > 0 && std::isfinite(x); }

static void check_numbers(const Config& c, const char* at) {
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
  const struct {
    const char* name;
    double value;
    bool may_be_none;
  } scales[] = {{"scale of embeddings", c.embedding_scale, false}, {"scale of branches", c.residual_scale, false},
                {"scale of logits", c.logit_scale, false},         {"local rotary base", c.local_rope_base, false},
                {"norm's epsilon", c.norm.eps, false},             {"first decay slope", c.decay.start.value_or(1), false},
                {"scale of scores", c.score_scale, true},          {"cap of scores", c.score_cap, true},
                {"cap of logits", c.logit_cap, true},              {"bound of q, k and v", c.qkv_clip, true}};
  for (const auto& scale : scales) {
    CHECK(positive(scale.value) || (scale.may_be_none && scale.value == 0), "%s: the %s is %g, it must be positive%s", at,
          scale.name, scale.value, scale.may_be_none ? ", or 0 for none" : "");
  }
  CHECK(c.heads % c.kv_heads == 0, "%s: %ld heads do not share %ld kv heads evenly", at, static_cast<long>(c.heads),
        static_cast<long>(c.kv_heads));
  CHECK(c.sinks >= 0 && c.sinks <= 64, "%s: %ld attention sinks, expected 0 to 64", at, static_cast<long>(c.sinks));
  CHECK(c.lora.rank >= 0 && c.lora.rank <= 1 << 20 && positive(c.lora.alpha),
        "%s: LoRA of rank %ld and alpha %g, expected positive numbers", at, static_cast<long>(c.lora.rank), c.lora.alpha);
}

static void check_layers(const Config& c, const char* at) {
  const bool same_dims = c.key_dim == c.head_dim;
  const long layers = static_cast<long>(c.layers), key_dim = static_cast<long>(c.key_dim), head_dim = static_cast<long>(c.head_dim);
  CHECK(static_cast<int64_t>(c.mixers.size()) == c.layers, "%s: %zu mixers for %ld layers", at, c.mixers.size(), layers);
  const std::pair<const char*, size_t> lists[] = {
      {"windows", c.windows.size()}, {"numbers of far features", c.far_features.size()}, {"rotations", c.turns.size()}};
  for (const auto& [name, size] : lists) {
    CHECK(size == 0 || static_cast<int64_t>(size) == c.layers, "%s: %zu %s for %ld layers", at, size, name, layers);
  }
  for (int64_t i = 0; i < c.layers; i++) {
    const bool is_window = c.mixers[i] == MixerKind::window;
    const int64_t window = c.windows.empty() ? 0 : c.windows[i], far = c.far_features.empty() ? 0 : c.far_features[i];
    CHECK(is_window ? window > 0 && window <= INT32_MAX : window >= 0,
          "%s: layer %ld has a sliding window of %ld keys, expected %s", at, static_cast<long>(i), static_cast<long>(window),
          is_window ? "1 to 2147483647" : "0 (none) or more");
    CHECK(far >= 0 && far % 2 == 0 && far <= 1 << 16, "%s: %ld far features, expected an even number from 0 to 65536", at,
          static_cast<long>(far));
    CHECK(same_dims || !is_window,
          "%s: keys have %ld dimensions and their projections %ld: in layer %ld, a window layer, the two must be equal", at, key_dim,
          head_dim, static_cast<long>(i));
  }
  CHECK(same_dims || c.feature_map,
        "%s: keys have %ld dimensions and their projections %ld: without a feature map the two must be equal", at, key_dim, head_dim);
  if (!has_mixer(c, MixerKind::delta)) return;
  CHECK(c.decay.source == DecayConfig::Source::gated, "%s: a delta layer's decays follow each token (decay.source gated)", at);
  CHECK(c.output_norm != OutputNorm::denominator, "%s: a delta layer has no denominator (use output_norm group or none)", at);
}

static void check_rope(const Config& c, const char* at) {
  const Rope& rope = c.rope;
  if (rope.layout == Rope::Layout::none) return;
  bool valid = positive(rope.base) && positive(rope.scale) && positive(rope.magnitude);
  valid = valid && rope.trained >= 0 && rope.dynamic >= 0;
  for (const auto* divisors : {&rope.divisors, &rope.long_divisors}) {
    valid = valid && std::all_of(divisors->begin(), divisors->end(), positive);
  }
  CHECK(valid, "%s: rotary base %g, scale %g, magnitude %g and all divisors must be positive", at, rope.base, rope.scale,
        rope.magnitude);
  for (const MixerKind kind : c.mixers) {
    if (has_head_state(kind) && !c.rotates) continue;
    const int64_t dim = has_head_state(kind) && !c.rope_before_map ? c.key_dim : c.head_dim;
    const int64_t rotated = rope.dims == 0 ? dim : rope.dims;
    CHECK(rotated > 0 && rotated <= dim && rotated % 2 == 0, "%s: %ld of %ld dimensions of a head are to be rotated in pairs", at,
          static_cast<long>(rotated), static_cast<long>(dim));
    for (const auto* divisors : {&rope.divisors, &rope.long_divisors}) {
      CHECK(divisors->empty() || static_cast<int64_t>(divisors->size()) == rotated / 2,
            "%s: %zu divisors of rotary frequencies for %ld pairs", at, divisors->size(), static_cast<long>(rotated / 2));
    }
  }
}

void check_config(const Config& c, const std::string& where) {
  check_numbers(c, where.c_str());
  check_layers(c, where.c_str());
  check_rope(c, where.c_str());
}

Rope rope_of(const Config& c, int64_t layer) {
  Rope rope = c.rope;
  const Turn turn = c.turns.empty() ? Turn::rope : c.turns[layer];
  if (turn == Turn::none) rope.layout = Rope::Layout::none;
  if (turn == Turn::local) rope = {.layout = c.rope.layout, .base = c.local_rope_base, .dims = c.rope.dims};
  return rope;
}

bool has_mixer(const Config& c, MixerKind kind) { return std::count(c.mixers.begin(), c.mixers.end(), kind) > 0; }

bool has_head_states(const Config& c) { return std::any_of(c.mixers.begin(), c.mixers.end(), has_head_state); }

bool is_window_student(const Config& config) { return has_mixer(config, MixerKind::window) && !has_head_states(config); }

void check_recurrent(const Config& config, const std::string& where) {
  for (size_t i = 0; i < config.mixers.size(); i++) {
    CHECK(config.mixers[i] != MixerKind::softmax,
          "%s: layer %zu has softmax attention, whose memory grows with the text; all layers must be recurrent "
          "(supra linearize makes them so)",
          where.c_str(), i);
  }
}

}  // namespace supra
