#pragma once
#include "nn/mixer.h"

namespace supra {

// How far and how broadly a head attends: the mean distance of the keys in tokens, and the entropy of their weights divided by
// that of equal weights. Means over the queries that see several keys.
struct HeadReach {
  double distance = 0, entropy = 0;
};

// Causal softmax attention with grouped queries: the teacher, and the baseline. Its state is the KV cache:
// parts = { k (B,S,G,K), v (B,S,G,V) }, S the capacity, which doubles when it is full.
class SoftmaxAttention : public Mixer {
 public:
  SoftmaxAttention(const Config& config, int64_t layer);
  MixerKind kind() const override { return MixerKind::softmax; }
  void visit(const std::string& path, const VisitParameters& f) override;
  void to(Device, Dtype activations) override { cache_dtype_ = activations; }
  Var features(const Var& x, const Steps& steps, LayerState* state) const override;

  struct Heads {
    Var q, k, v;  // (B,T,H,K)  (B,T,G,K)  (B,T,G,V), normalised
  };
  Heads rotated(const Var& x, const Steps& steps) const;

  // For sequences x (B,T,C) that start here: adds each head's reach, times the number of queries, to `sums` (H). Returns
  // that number of queries.
  int64_t add_reach(std::vector<HeadReach>& sums, const Var& x, const Steps& steps) const;

 protected:
  Heads project(const Var& x) const;  // not rotated
  std::vector<StatePart> state_parts(int64_t position) const override;

  int64_t window_;
  Scores scores_;
  Dtype cache_dtype_ = Dtype::f32;
};

}  // namespace supra
