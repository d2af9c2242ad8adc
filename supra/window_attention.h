#pragma once
#include "nn/decoder.h"
#include "nn/softmax_attention.h"

namespace supra {

// The window layer: the teacher's softmax attention over the first S keys of a sequence (attention sinks, StreamingLLM, arXiv
// 2309.17453) and the last W keys (sliding window). The keys between them enter by a linear attention with one state per
// key/value head, under the same normaliser (LoLCATs, arXiv 2410.10254; in the absolute form of LESS, arXiv 2402.09398):
//
//   y_n = ( sum_near e^(q_n k_j / sqrt(K)) v_j + e^m_n sum_far f(q_n) g(k_j) v_j ) / ( the same sums without v )
//   f, g  non-negative features of q and of k: [softmax(A x); softmax(-A x)], A (far_features/2, K) per head
//   m_n   = u q_n + b, a log factor per query head
//
// Without far features it is softmax attention with sinks and a sliding window; on texts of at most W tokens it is the teacher.
// The teacher was not trained on distances beyond its context. There a query uses position S + W - 1 for the sinks, as if it
// were at the end of a full window (StreamingLLM).
//
// The state is constant: parts = { k (B,S+W,G,K), v (B,S+W,G,V), and with far features far (B,G,far_features,V+1), f32 }.
// Keys and values are in a ring (kernels/ops.h, window_step). The last column of `far` is the sum of the features.
class WindowAttention : public SoftmaxAttention {
 public:
  WindowAttention(const Config& config, int64_t layer);
  MixerKind kind() const override { return MixerKind::window; }
  void visit(const std::string& path, const VisitParameters& f) override;
  void init_neutral() override;  // the far part has almost no weight at first
  void to(Device device, Dtype activations) override;
  Var features(const Var& x, const Steps& steps, LayerState* state) const override;

  int64_t window() const { return window_; }
  int64_t sinks() const { return sinks_; }
  int64_t far_features() const { return far_features_; }

  // ---- for training/fit_far.h: the two parts of features(), from rotated() and any window, for sequences that start here
  SoftmaxPart near_part(const Var& q, const Var& k, const Var& v, int64_t window) const;
  Var far_part(const Var& q, const Var& k, const Var& v, int64_t window) const;  // (B,T,H,V+1)
  Var far_mass(const Var& q) const;                                              // (B,T,H)

 private:
  std::vector<StatePart> state_parts(int64_t position) const override;
  struct Layout;  // the sources and destinations of the keys of a call
  Var far_features_of(const Linear& map, const Var& x, int64_t heads) const;
  LinearAttention far_sums(const Var& q, const Var& k, const Var& v, const Layout& layout, const Var& state) const;
  Var join(const SoftmaxPart& near, const Var& far, const Var& q) const;

  int64_t sinks_, far_features_, context_;
  MixerParts parts_;
  Dtype state_dtype_;
  Rope held_rope_;                  // for queries to the sinks
  Linear far_q_, far_k_, far_mass_;  // (H*f, K), (G*f, K), (H, K) with bias; no weights if there is no far part
};

// The config with a layer's far part replaced by more keys in its window, of the same size in bytes.
Config without_far(Config config, int64_t layer);

}  // namespace supra
