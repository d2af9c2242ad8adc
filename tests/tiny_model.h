#pragma once
#include "supra/model.h"

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
  return c;
}

inline std::shared_ptr<Decoder> tiny_decoder(MixerKind mixer, uint64_t seed = 3) {
  auto decoder = make_decoder(tiny_config(mixer));
  decoder->init_weights(seed);
  return decoder;
}

}  // namespace supra
