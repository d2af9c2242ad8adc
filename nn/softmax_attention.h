#pragma once
#include "nn/mixer.h"

namespace supra {

// How a head looks back: means over queries that see several keys, of the distance of the keys in tokens, and of the entropy of
// their weights over that of equal weights.
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
  LayerState init_state(int64_t batch) const override;
  size_t state_bytes(int64_t position) const override;
  bool state_only_grows() const override { return true; }
  Var forward(const Var& x, const Steps& steps, LayerState* state) const override;

  // Of sequences x (B,T,C) that start here: adds each head's reach, times the queries it is the mean of, to `sums` (H). Returns
  // that number.
  int64_t add_reach(std::vector<HeadReach>& sums, const Var& x, const Steps& steps) const;

 protected:
  struct Heads {
    Var q, k, v;  // (B,T,H,K)  (B,T,G,K)  (B,T,G,V), normed, not rotated
  };
  Heads project(const Var& x) const;

  int64_t heads_, kv_heads_, key_dim_, value_dim_, window_;
  Scores scores_;
  double qkv_clip_;
  Rope rope_;
  QkNorm qk_norm_;
  Linear in_proj_;   // rows: H*K of q, G*K of k, G*V of v
  Linear out_proj_;  // (C, H*V)
  Norm q_norm_, k_norm_;
  Dtype cache_dtype_ = Dtype::f32;
};

// The mixer of a layer.
std::unique_ptr<Mixer> make_softmax_attention(const Config& config, int64_t layer);

}  // namespace supra
