#pragma once
#include "nn/mixer.h"

namespace supra {

// A decoder-only language model: the one model of the project. A family of models is a Config, not a class.
//
//   x = embed(tokens);  for each layer:  x += mixer(norm(x));  x += mlp(norm(x));  logits = norm(x) W^T
// (config.h has the other orders of a layer that there are, and the scales and caps of some families)
class Decoder {
 public:
  // Shown what each mixer was given, and made of it.
  using OnMixer = std::function<void(int64_t layer, const Var& input, const Var& output, const Steps& steps)>;

  // Its parameters have shapes and no memory yet.
  Decoder(const Config& config, const MakeMixer& make_mixer);

  const Config& config() const { return config_; }
  int64_t layers() const { return static_cast<int64_t>(layers_.size()); }
  const Mixer& mixer(int64_t layer) const { return *layers_[layer].mixer; }

  void visit(const VisitParameters& f);
  int64_t parameter_count();
  void allocate();  // gives every parameter zeros of its own
  // Moves every parameter. What changes parameters from outside (init_weights, fold) comes before. On the GPU
  // activations may be bf16; the parameters of a model that is trained stay f32.
  void to(Device device, Dtype activations = Dtype::f32);
  Device device() const { return embedding_.value().device(); }
  Dtype activations() const { return activations_; }
  // Merges what only training needs apart (Mixer::fold); true when anything was. Such a model cannot be saved.
  bool fold();

  // ---- lora.cpp
  // Puts low-rank factors beside the matrices that lora.on names. They change nothing yet.
  void add_lora(const LoraConfig& lora, uint64_t seed);
  // Adds the factors to their matrices, and they are gone; false where there were none.
  bool merge_lora();

  // Random weights as OpenLM starts a training: truncated normals of variance 1/fan_in, residual branches smaller with
  // depth, feature maps as torch.nn.Linear does (uniform in +-1/sqrt(fan_in)), gains 1, gates Mixer::init_neutral().
  // `which`: only the parameters it says yes to.
  void init_weights(uint64_t seed, const std::function<bool(const std::string& name)>& which = {});

  // Activation checkpointing: backward computes each layer again instead of keeping what it needs of it (a third more work,
  // the same bits).
  void set_recompute(bool on) { recompute_ = on; }

  // The state of B sequences that have seen nothing.
  State init_state(int64_t batch) const;
  size_t state_bytes(int64_t position) const;  // of one sequence
  // Rows [begin, end) of a state, to read on from while the state stays as it is. Caches that only grow are shared, not copied, so two
  // branches of one row must not be alive at once.
  State branch(const State& state, int64_t begin, int64_t end) const;

  // tokens (B,T) i32 -> (B,T,C) after the last norm. With a state: it holds the past and is advanced by lengths[b] steps
  // a row (T where lengths is empty). cuts (B): the columns of each row, ascending in 1 ... lengths[b] - 1, where a new
  // document begins: position 0, and nothing before is seen. The state that is left is the last document's.
  Var hidden(const Tensor& tokens, State* state = nullptr, const std::vector<int64_t>& lengths = {},
             const Cuts& cuts = {}, const OnMixer& on_mixer = {}) const;
  // The same, a layer at a time: embed() -> x (B,T,C), a block() each layer, last_norm().
  Var embed(const Tensor& tokens, const Steps& steps) const;
  Var block(int64_t layer, const Var& x, const Steps& steps, LayerState* state = nullptr, const OnMixer& on_mixer = {}) const;
  Var mixer_input(int64_t layer, const Var& x) const;  // what block() shows the layer's mixer of x
  Var last_norm(const Var& x) const { return norm_(x); }
  // hidden (..., C) -> logits (..., O)
  Var logits(const Var& hidden) const;
  // hidden (..., C), targets (N) -> the mean cross entropy (1) of the logits, which are never there as a whole; taught
  // where there is a Distillation
  Var loss(const Var& hidden, const Tensor& targets, double z_loss, const Distillation& distillation = {{}, 0}) const;

 private:
  struct Layer {
    Norm attention_norm, mlp_norm;
    Norm attention_post_norm, mlp_post_norm;  // only with both_norms
    std::unique_ptr<Mixer> mixer;
    Mlp mlp;
  };

  void declare_lora();  // factors of the config, without memory
  Var for_logits(const Var& hidden) const;  // what the output matrix is applied to
  const Var& output_weight() const { return config_.tied ? embedding_ : output_.weight; }

  Config config_;
  bool recompute_ = false;
  Dtype activations_ = Dtype::f32;
  Var embedding_;  // (O,C)
  Var positions_;  // (context, C), only with learned_positions
  Norm post_embed_norm_, norm_;
  std::vector<Layer> layers_;
  Linear output_;  // without a weight where it is tied to the embedding
};


}  // namespace supra
