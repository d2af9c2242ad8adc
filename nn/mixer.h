#pragma once
#include <memory>
#include <vector>

#include "nn/module.h"

// What mixes a token with those before it: softmax attention, SUPRA, and every later mixer. A model is a list of layers
// that may mix them. A mixer holds weights only; what it remembers of a sequence is a value, its state.

namespace supra {

// What one layer remembers of B sequences: tensors whose first dimension is B. Softmax attention keeps keys and values,
// which grow; SUPRA keeps (B,H,K,V), always f32, which does not.
struct LayerState {
  std::vector<Var> parts;
};

// The state of a whole model: a value. Copies share memory until clone().
struct State {
  std::vector<int64_t> positions;  // (B) steps each row has seen
  std::vector<LayerState> layers;

  int64_t batch() const { return static_cast<int64_t>(positions.size()); }
  State clone() const;
  State select(const std::vector<int64_t>& rows) const;  // copies of these rows, each as often as it is named
  void reset_row(int64_t b);  // as if the row had seen nothing
  State detach() const;       // the same values without their history: cuts back-propagation through time
};

// Which steps a call of forward() brings. Rows may be of different lengths: row b has lengths[b] real steps, the rest of
// its T columns is padding that touches nothing. There is no left padding. Of documents packed into one row, the first goes
// on from the state, the others begin anew.
struct Steps {
  std::vector<int64_t> first;    // (B) position of column 0
  std::vector<int64_t> lengths;  // (B), or empty: all T
  Cuts cuts;                     // (B) where new documents begin, or empty: nowhere
};

// Whether a call with a state takes the recurrent form: it brings one step of queries x (B,1,...), without gradients. In double the
// parallel form is the recurrence itself.
inline bool is_decode(const Var& x, const Steps& steps) {
  return x.dim(1) == 1 && !grad_enabled() && steps.lengths.empty() && x.dtype() != Dtype::f64;
}

class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual MixerKind kind() const = 0;
  virtual void visit(const std::string& path, const VisitParameters& f) = 0;
  // For inference: merges matrices that only training needs apart, where that saves work and is exact but for the rounding
  // of f32. True when it did; the parameters are others from then on.
  virtual bool fold() { return false; }

  // Sets gates and learned decays so that the mixer first computes what it would compute without them.
  virtual void init_neutral() {}

  // Moves what visit() does not show, constants that forward() needs, to where the parameters went.
  // A KV cache is in the dtype of activations.
  virtual void to(Device, Dtype) {}

  // The state of B sequences that have seen nothing.
  virtual LayerState init_state(int64_t batch) const = 0;
  // Bytes one sequence's state takes after `position` steps.
  virtual size_t state_bytes(int64_t position) const = 0;
  // Whether steps are only ever written behind those of the past (a KV cache). A copy that shares memory may then read on by itself.
  virtual bool state_only_grows() const { return false; }

  // x (B,T,C) -> y (B,T,C), any T, any split: f(x1); f(x2) equals f(x1 x2). With a state, it is read as the past and
  // replaced by the state after the last step; without one the sequence starts here and its state is dropped.
  // A single step without gradients (decode) takes the recurrent form. The state's
  // memory may be written to: clone() what is to be kept.
  virtual Var forward(const Var& x, const Steps& steps, LayerState* state) const = 0;
};

using MakeMixer = std::function<std::unique_ptr<Mixer>(const Config& config, int64_t layer)>;

}  // namespace supra
