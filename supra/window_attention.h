#pragma once
#include "nn/decoder.h"
#include "nn/softmax_attention.h"

namespace supra {

// The window layer: the teacher's own softmax attention over the first S keys of a sequence (attention sinks, StreamingLLM,
// arXiv 2309.17453) and the last W (sliding window), and for every key between them a linear attention with a state per
// key/value head, under one normaliser (LoLCATs, arXiv 2410.10254; in the absolute form of LESS, arXiv 2402.09398):
//
//   y_n = ( sum_near e^(q_n k_j / sqrt(K)) v_j + e^m_n sum_far f(q_n) g(k_j) v_j ) / ( the same sums without v )
//   f, g  features that are never negative: [softmax(A x); softmax(-A x)], A (far_features/2, K) a head, of q and of k
//   m_n   = u q_n + b, a log factor a query head
//
// With no far features it is softmax attention with sinks and a sliding window, and on texts of at most W tokens it is the
// teacher. q and k are rotated as the teacher has it. Beyond its context, where a distance to the sinks was never trained,
// a query meets the sinks as if it stood right behind a full window, at position S + W - 1 (StreamingLLM's positions in the
// cache: distances within the window are the same anyway).
//
// The state is constant: parts = { k (B,S+W,G,K), v (B,S+W,G,V), and with far features far (B,G,far_features,V+1), f32 }.
// Keys and values lie in a ring (kernels/ops.h, window_step). The last column of far is the sum of the features alone.
class WindowAttention : public SoftmaxAttention {
 public:
  WindowAttention(const Config& config, int64_t layer);
  MixerKind kind() const override { return MixerKind::window; }
  void visit(const std::string& path, const VisitParameters& f) override;
  void init_neutral() override;  // the far part weighs next to nothing
  void to(Device device, Dtype activations) override;
  LayerState init_state(int64_t batch) const override;
  size_t state_bytes(int64_t position) const override;
  bool state_only_grows() const override { return false; }
  Var forward(const Var& x, const Steps& steps, LayerState* state) const override;

  // What out_proj is applied to, (B,T,H*V).
  Var features(const Var& x, const Steps& steps, LayerState* state) const;
  const Linear& out_proj() const { return out_proj_; }
  int64_t window() const { return window_; }
  int64_t sinks() const { return sinks_; }
  int64_t far_features() const { return far_features_; }

  // ---- what fitting a far part needs (training/fit_far.h): the two parts of features() of sequences that start here, from
  // rotated q (B,T,H,K), k (B,T,G,K) and any values (B,T,G,V), with another window than the layer's own
  Heads rotated(const Var& x) const;
  SoftmaxPart near_part(const Var& q, const Var& k, const Var& v, int64_t window) const;
  Var far_part(const Var& q, const Var& k, const Var& v, int64_t window) const;  // (B,T,H,V+1)
  Var far_mass(const Var& q) const;                                              // (B,T,H)

 private:
  struct Layout;  // where the keys of a call come from and go to
  Var far_features_of(const Linear& map, const Var& x, int64_t heads) const;
  LinearAttention far_sums(const Var& q, const Var& k, const Var& v, const Layout& layout, const Var& state) const;
  Var join(const SoftmaxPart& near, const Var& far, const Var& q) const;

  int64_t sinks_, far_features_, context_;
  MixerParts parts_;
  Dtype state_dtype_;
  Rope held_rope_;                  // for queries that meet the sinks
  Linear far_q_, far_k_, far_mass_;  // (H*f, K), (G*f, K), (H, K) with bias; without weights where there is no far part
};

// The config with a layer's far part made window: as many keys as take its bytes.
Config without_far(Config config, int64_t layer);

}  // namespace supra
