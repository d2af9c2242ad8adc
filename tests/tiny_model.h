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
