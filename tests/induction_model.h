#pragma once
#include "supra/model.h"

// A transformer whose weights were written by hand: two layers that copy what followed the last eight bytes where they stood before
// (induction heads: Olsson et al., arXiv 2209.11895). It recalls whatever its context holds, so that a measure of recall can be
// judged by it. With `window` both layers see only so many tokens, and it recalls nothing from before.
//
// The stream has slots of kSlot numbers: the byte itself, those 1 to 8 before it, and the byte that comes next. Layer 0: head j - 1
// looks j bytes back, by its rotary part alone, and copies the byte to slot j. Layer 1: a query of slots 0 to 7 meets keys of slots
// 1 to 8, and the byte there goes to the last slot.

namespace supra {

inline Model induction_model(int64_t window = 0) {
  constexpr int64_t kSlot = 32, kBack = 8, kTurned = 32, kWidth = (kBack + 2) * kSlot, kKey = kTurned + kBack * kSlot;
  Config config;
  config.vocab = 256;
  config.width = kWidth;
  config.layers = 2;
  config.heads = kBack;
  config.kv_heads = 1;
  config.head_dim = config.key_dim = kKey;
  config.value_dim = kSlot;
  config.mlp_width = 8;
  config.qkv_bias = true;
  config.rope.dims = kTurned;
  config.mixers = {MixerKind::softmax, MixerKind::softmax};
  config.context = 1 << 16;
  config.windows = {window, window};

  Model model;
  model.tokenizer = load_tokenizer("bytes");
  model.decoder = make_decoder(config);
  model.decoder->allocate();
  std::vector<float> codes(256 * kSlot);  // of a byte: signs, nearly at right angles to those of another
  Philox random(1);
  for (float& sign : codes) sign = random.next() % 2 ? 1 : -1;
  // queries of a layer, in front of its one head of keys and values
  constexpr int64_t kQueries = kBack * kKey;
  model.decoder->visit([&](const std::string& name, Var& parameter) {
    const Tensor& t = parameter.value();
    float* const w = t.data<float>();
    const auto at = [&](int64_t row, int64_t column) -> float& { return w[row * kWidth + column]; };
    if (name.find("norm") != std::string::npos) t.fill(1);
    if (name == "tok_embeddings.weight" || name == "output.weight") {
      const int64_t slot = name == "output.weight" ? kBack + 1 : 0;
      for (int64_t i = 0; i < 256 * kSlot; i++) at(i / kSlot, slot * kSlot + i % kSlot) = codes[i];
    }
    if (name == "layers.0.attention.in_proj.bias") {
      for (int64_t pair = 0; pair < kTurned / 2; pair++) {
        const double angle = std::pow(config.rope.base, -2.0 * static_cast<double>(pair) / kTurned);
        w[kQueries + pair] = 1;
        for (int64_t back = 1; back <= kBack; back++) {
          float* const query = w + (back - 1) * kKey;
          query[pair] = static_cast<float>(1000 * std::cos(angle * static_cast<double>(back)));
          query[pair + kTurned / 2] = static_cast<float>(-1000 * std::sin(angle * static_cast<double>(back)));
        }
      }
    }
    if (name.ends_with("in_proj.weight")) {
      for (int64_t i = 0; i < kSlot; i++) at(kQueries + kKey + i, i) = 1;
    }
    if (name == "layers.1.attention.in_proj.weight") {
      for (int64_t i = 0; i < kBack * kSlot; i++) {
        at(kTurned + i, i) = 10;
        at(kQueries + kTurned + i, kSlot + i) = 1;
      }
    }
    // (width, heads * value_dim); what layer 0 copies was normed with one slot of all filled
    for (int64_t i = 0; i < kBack * kSlot; i++) {
      if (name == "layers.0.attention.out_proj.weight") w[(kSlot + i) * kBack * kSlot + i] = static_cast<float>(1 / std::sqrt(kBack + 2.0));
      if (name == "layers.1.attention.out_proj.weight" && i < kSlot) w[((kBack + 1) * kSlot + i) * kBack * kSlot + i] = 1;
    }
  });
  return model;
}

// Words of lower-case letters at random.
inline std::string random_words(int64_t bytes, uint64_t seed = 2) {
  Philox random(seed);
  std::string text;
  while (static_cast<int64_t>(text.size()) < bytes) text += random.below(6) == 0 ? ' ' : static_cast<char>('a' + random.below(26));
  return text;
}

}  // namespace supra
