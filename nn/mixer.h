#pragma once
#include <memory>
#include <vector>

#include "nn/module.h"

// A mixer is the part of a layer that combines a token with those before it: softmax attention, SUPRA and others. The layers
// of a model may have different mixers. A mixer holds only weights; its memory of a sequence is a separate value, the state.

namespace supra {

// The memory of one layer for B sequences: tensors whose first dimension is B. Keys and values grow, a recurrent state does not.
struct LayerState {
  std::vector<Var> parts;
};

// The state of a whole model. It is a value; copies share memory, clone() does not.
struct State {
  std::vector<int64_t> positions;  // (B) steps each row has seen
  std::vector<LayerState> layers;

  int64_t batch() const { return static_cast<int64_t>(positions.size()); }
  State clone() const;
  State select(const std::vector<int64_t>& rows) const;  // copies of these rows; a row may be named several times
  void reset_row(int64_t b);  // the state before the first token
  State detach() const;       // the same values without the graph: stops back-propagation through time
};

// The steps of a call of forward(). Rows may have different lengths: row b has lengths[b] real steps, and the rest of its T
// columns is padding that changes nothing. There is no left padding. If several documents are packed into a row, the first one
// continues from the state and the others start from an empty state.
struct Steps {
  std::vector<int64_t> first;    // (B) position of column 0
  std::vector<int64_t> lengths;  // (B), or empty: all T
  Cuts cuts;                     // (B) where new documents begin, or empty: nowhere
};

// Whether a call with a state uses the recurrent form: x (B,1,...) is one step, nothing is padded, no gradients are recorded. In
// double it never does: the reference computes step by step anyway.
inline bool is_decode(const Var& x, const Steps& steps) {
  return x.dim(1) == 1 && !grad_enabled() && steps.lengths.empty() && x.dtype() != Dtype::f64;
}

// All mixers have H query heads and G key/value heads between a projection into them and one out of them.
class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual MixerKind kind() const = 0;
  virtual void visit(const std::string& path, const VisitParameters& f) = 0;
  // For inference: merges matrices that only training needs separately, if that saves work and is exact up to f32 rounding.
  // Returns true if it did; the mixer then has other parameters.
  virtual bool fold() { return false; }
  // Sets gates and learned decays so that the mixer first computes what it would compute without them.
  virtual void init_neutral() {}
  // Moves the constants, which visit() does not list, to the device of the parameters. A KV cache gets the activations' dtype.
  virtual void to(Device, Dtype) {}

  LayerState init_state(int64_t batch) const;  // of B sequences before their first token
  size_t state_bytes(int64_t position) const;  // of one sequence after `position` steps

  // x (B,T,C) -> y (B,T,C) for any T and any split: f(x1); f(x2) equals f(x1 x2). A given state is the past, and is replaced by
  // the state after the last step; without one the sequence starts here. A single step without gradients (decoding) uses the
  // recurrent form, which may overwrite the state's memory: clone() a state that is still needed.
  Var forward(const Var& x, const Steps& steps, LayerState* state) const { return out_proj_(features(x, steps, state)); }
  // The input of out_proj, (B,T,H*V).
  virtual Var features(const Var& x, const Steps& steps, LayerState* state) const = 0;
  const Linear& out_proj() const { return out_proj_; }

 protected:
  struct StatePart {
    Shape shape;
    Dtype dtype;
  };
  virtual std::vector<StatePart> state_parts(int64_t position) const = 0;  // of one sequence after `position` steps
  // Norms of q and k, if the config asks for them, get H and `k_heads` heads of `key_dim`.
  Mixer(const Config& config, int64_t layer, int64_t key_dim, int64_t k_heads);
  Var projected(const Var& x) const;                 // q, k and v, (B,T,H*head_dim + G*(head_dim+V))
  Var normed(const Norm& norm, const Var& x) const;  // of x (B,T,heads,key_dim), over all heads together or per head

  int64_t heads_, kv_heads_, head_dim_, value_dim_;
  Rope rope_;
  double qkv_clip_;
  QkNorm qk_norm_;
  Linear in_proj_;        // rows: H*head_dim of q, G*head_dim of k, G*V of v
  Linear out_proj_;       // (C, H*V)
  Norm q_norm_, k_norm_;  // without weights if there is no qk_norm
};

using MakeMixer = std::function<std::unique_ptr<Mixer>(const Config& config, int64_t layer)>;

}  // namespace supra
