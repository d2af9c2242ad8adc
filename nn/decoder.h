#pragma once
#include "nn/mixer.h"

namespace supra {

// A decoder-only language model, the one model class of the project. A family of models is a Config, not a class.
//
//   x = embed(tokens);  for each layer:  x += mixer(norm(x));  x += mlp(norm(x));  logits = norm(x) W^T
// (config.h lists the other orders of a layer, and the scales and caps of some families)
class Decoder {
 public:
  // Called with the input and the output of each mixer.
  using OnMixer = std::function<void(int64_t layer, const Var& input, const Var& output, const Steps& steps)>;

  // The parameters have shapes, but no memory yet.
  Decoder(const Config& config, const MakeMixer& make_mixer);

  const Config& config() const { return config_; }
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  const Mixer& mixer(int64_t layer) const { return *layers_[layer].mixer; }

  void visit(const VisitParameters& f);
  int64_t parameter_count();
  void allocate();  // allocates every parameter, filled with zeros
  // Moves every parameter to a device, after init_weights and fold. On the GPU activations may be bf16.
  void to(Device device, Dtype activations = Dtype::f32);
  Device device() const { return embedding_.value().device(); }
  Dtype activations() const { return activations_; }
  // Merges matrices that only training needs separately (Mixer::fold). True if any were merged; the model then cannot be saved.
  bool fold();

  // ---- lora.cpp
  // Adds low-rank factors to the matrices that lora.on names. Their product is zero at first.
  void add_lora(const LoraConfig& lora, uint64_t seed);
  // Adds the factors' products to their matrices and removes the factors; false if there were none.
  bool merge_lora();

  // Random weights as OpenLM's: truncated normals of variance 1/fan_in, residual branches smaller with depth, feature maps as
  // torch.nn.Linear's, gains 1, gates Mixer::init_neutral(). `which`: only the parameters for which it returns true.
  void init_weights(uint64_t seed, const std::function<bool(const std::string& name)>& which = {});

  // Activation checkpointing: backward recomputes each layer (a third more work, the same bits).
  void set_recompute(bool on) { recompute_ = on; }

  // The state of B sequences before their first token.
  State init_state(int64_t batch) const;
  size_t state_bytes(int64_t position) const;  // of one sequence
  // A row of a state, to continue from while the original stays as it is. KV caches are shared, so two branches of the same row
  // must not be used at the same time.
  State branch(const State& state, int64_t row) const;

  // tokens (B,T) i32 -> (B,T,C) after the last norm. A state holds the past and is advanced. lengths and cuts as in Steps; cuts
  // are in 1 ... lengths[b] - 1. The state at the end is the last document's.
  Var hidden(const Tensor& tokens, State* state = nullptr, const std::vector<int64_t>& lengths = {},
             const Cuts& cuts = {}, const OnMixer& on_mixer = {}) const;
  // The same, one layer at a time: embed() -> x (B,T,C), one block() per layer, last_norm().
  Var embed(const Tensor& tokens, const Steps& steps) const;
  Var block(int64_t layer, const Var& x, const Steps& steps, LayerState* state = nullptr, const OnMixer& on_mixer = {}) const;
  Var mixer_input(int64_t layer, const Var& x) const;  // the input that block() computes from x for the layer's mixer
  Var last_norm(const Var& x) const { return norm_(x); }
  // hidden (..., C) -> logits (..., O)
  Var logits(const Var& hidden) const;
  // hidden (..., C), targets (N) -> the mean cross entropy (1) of the logits, which are never stored as a whole
  Var loss(const Var& hidden, const Tensor& targets, double z_loss, const Distillation& distillation = {{}, 0}) const;

 private:
  struct Layer {
    Norm attention_norm, mlp_norm;
    Norm attention_post_norm, mlp_post_norm;  // only with both_norms
    std::unique_ptr<Mixer> mixer;
    Mlp mlp;
  };

  void declare_lora();  // declares the factors of the config, without memory
  Var for_logits(const Var& hidden) const;  // the input of the output matrix
  const Var& output_weight() const { return config_.tied ? embedding_ : output_.weight; }

  Config config_;
  bool recompute_ = false;
  Dtype activations_ = Dtype::f32;
  Var embedding_;  // (O,C)
  Var positions_;  // (context, C), only with learned_positions
  Norm post_embed_norm_, norm_;
  std::vector<Layer> layers_;
  Linear output_;  // has no weight if it is tied to the embedding
};

}  // namespace supra
