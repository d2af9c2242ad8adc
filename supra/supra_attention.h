#pragma once
#include "nn/mixer.h"

namespace supra {

// The SUPRA layer (arXiv 2405.06640, eq. 9 and 10) as linear_open_lm computes it. It keeps all weights of the transformer's
// attention. A learned feature map, a decay and a norm replace softmax:
//
//   q, k = relu(E q + b)      E (H*K, H*head_dim) mixes heads; k has its own map if G != H
//                             (per_head_feature_map: E (H*K, head_dim), each head by its own K rows)
//   q, k = norm(q), norm(k)   over all heads together or per head; only with a qk_norm
//   q, k = rope(q), rope(k)
//   o_i  = sum_{j<=i} g_h^(i-j) (q_i . k_j / sqrt(K)) v_j
//   y    = out_proj(groupnorm(o))     one group per head, no weights, always eps 1e-5
//
// Options (config.h):
//   decay.source      learned: log g = logsigmoid(b), b (H).   gated: log g = logsigmoid(W x + b), W (H,C), one per head and token
//   rope_before_map   q = relu(E rope(q) + b), and the same for k
//   output_norm       denominator: o_i / (sum_{j<=i} g_h^(i-j) q_i . k_j / sqrt(K) + 1e-6), with an extra column of ones in v; none: o
//   output_gate       y = out_proj(norm(o) * sigmoid(Z x + c))
//
// The layer is also an RNN: S <- g S + k v^T / sqrt(K), o = q S. parts = { S (B,H,K,V) }, the state after the last step.
// linear_open_lm stores g S instead; evaluation/verify.cpp converts it before comparing.
class SupraAttention : public Mixer {
 public:
  SupraAttention(const Config& config, int64_t layer);
  MixerKind kind() const override { return MixerKind::supra; }
  void visit(const std::string& path, const VisitParameters& f) override;
  // relu(E (W x + a) + b) = relu((E W) x + E a + b): merges the feature maps into in_proj, if that makes fewer elements.
  bool fold() override;
  void to(Device device, Dtype activations) override;
  Var features(const Var& x, const Steps& steps, LayerState* state) const override;

  // Decays start at the values of the fixed ones, an output gate at sigmoid(3).
  void init_neutral() override;
  // (H) log g in f64, fixed or learned; undefined for a gated layer, where it depends on the token.
  Tensor log_decay() const;

 protected:
  std::vector<StatePart> state_parts(int64_t position) const override;
  // q, k and v before the feature maps, (B,T,H*head_dim + G*(head_dim+V)).
  virtual Var project(const Var& x, const Steps&, LayerState*) const { return projected(x); }
  // The normalised output (B,T,H,V) of the heads for q (B,T,H,K), k (B,T,G,K), v (B,T,G,V) after `before`.
  virtual Var attend(const Var& x, const Var& q, const Var& k, const Var& v, const Features& before, const Steps& steps, LayerState* state) const;
  Var group_normed(const Var& o) const;  // applies the group norm if the layer has one
  Var log_decays(const Var& x) const;  // (H) or (B,T,H)
  int64_t state_columns() const { return value_dim_ + (output_norm_ == OutputNorm::denominator ? 1 : 0); }

  int64_t key_dim_;
  bool per_head_map_, rope_first_, folded_ = false;
  DecayConfig::Source decay_source_;
  OutputNorm output_norm_;
  Linear q_map_, k_map_;      // the feature maps; k_map_ only if G != H
  Linear decay_gate_;         // (H,C); no weight if the decay is learned but the same for all tokens
  Linear z_proj_;             // (H*V,C), only with an output gate
  Tensor log_decay_;          // (H) f64, fixed
  Tensor gpu_log_decay_;      // the same in f32 on the GPU, if the layer is there
};

}  // namespace supra
