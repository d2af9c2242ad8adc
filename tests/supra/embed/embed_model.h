#pragma once
#include <string>
#include <vector>

#include "supra/formats/weights/packed_model.h"
#include "supra/supra.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

// What tests of supra.h share: a small recurrent model, packed, and how to get at it.

namespace supra {

// Writes a random recurrent model as one file: of raw bytes, or of another tokenizer and as many ids.
inline void write_tiny_model(const Path& path, uint64_t seed = 5, Dtype dtype = Dtype::f32,
                             const NamedBytes& tokenizer = {{"tok.bytes", ""}}, int64_t vocabulary = 256,
                             Config config = tiny_config(MixerKind::supra)) {
  config.vocab = vocabulary;
  const auto decoder = make_decoder(config);
  decoder->init_weights(seed);
  NamedTensors weights;
  decoder->visit([&](const std::string& name, Var& parameter) {
    // a far part weighs as much as a window
    if (name.find("_totrain_far_mass") != std::string::npos) parameter.value().fill(0);
    weights.emplace_back(name, parameter.value().to(dtype));
  });
  write_packed(path, config, weights, tokenizer, {});
}

// What a host may be given: a state per head, rings of keys and values, and both.
struct HostModel {
  const char* name;
  Config config;
};
inline void PrintTo(const HostModel& model, std::ostream* out) { *out << model.name; }

inline std::vector<HostModel> host_models() {
  Config window = tiny_config(MixerKind::window), half = window, mixed = window, delta = tiny_config(MixerKind::delta);
  half.state_dtype = Dtype::f16;
  half.far_features = {4, 6};
  delta.short_convolution = true;
  mixed.mixers[1] = MixerKind::supra;
  mixed.far_features = {4, 0};
  // keys of an odd size: no part of the state but the first begins where a float may
  mixed.state_dtype = Dtype::f16;
  mixed.kv_heads = 1;
  mixed.head_dim = mixed.key_dim = 5;
  mixed.rope.dims = 4;
  return {{"supra", tiny_config(MixerKind::supra)}, {"window", window}, {"far_in_f16", half}, {"mixed", mixed}, {"delta", delta}};
}

// Of `threads` threads, everything else as it is by default.
inline supra_options options_of(int32_t threads = 1) {
  supra_options options = {};
  options.size = sizeof options;
  options.threads = threads;
  return options;
}

constexpr supra_sampling sampling_of(float temperature, int32_t top_k = 0, float top_p = 1, float min_p = 0) {
  return {sizeof(supra_sampling), temperature, top_k, top_p, min_p, 1, nullptr, 0};
}

struct CloseEngine {
  void operator()(supra_engine* engine) const { supra_close(engine); }
};
struct EndSession {
  void operator()(supra_session* session) const { supra_end(session); }
};
using EnginePtr = std::unique_ptr<supra_engine, CloseEngine>;
using SessionPtr = std::unique_ptr<supra_session, EndSession>;

inline SessionPtr start(const EnginePtr& engine) { return SessionPtr(supra_start(engine.get(), nullptr)); }

inline std::vector<float> logits_of(const EnginePtr& engine, const SessionPtr& session) {
  const float* logits = supra_logits(session.get());
  return logits ? std::vector<float>(logits, logits + supra_vocabulary(engine.get())) : std::vector<float>();
}

inline std::string saved(const EnginePtr& engine, const SessionPtr& session) {
  std::string bytes(supra_state_bytes(engine.get()), '\0');
  size_t written = 0;
  EXPECT_EQ(supra_save(session.get(), bytes.data(), bytes.size(), &written, nullptr), SUPRA_OK);
  EXPECT_EQ(written, bytes.size());
  return bytes;
}

}  // namespace supra
