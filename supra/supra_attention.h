#pragma once
#include "nn/mixer.h"

namespace supra {

// The SUPRA layer (arXiv 2405.06640, eq. 9 and 10) as linear_open_lm computes it. Everything of the transformer's
// attention is kept; softmax is replaced by a learned feature map, a decay and a norm:
//
//   q, k = relu(E q + b)      E (H*K, H*head_dim) mixes heads; k has a map of its own where G != H
//                             (per_head_feature_map: E (H*K, head_dim), each head by its own K rows)
//   q, k = norm(q), norm(k)   over all heads together or head by head, only with a qk_norm
//   q, k = rope(q), rope(k)
//   o_i  = sum_{j<=i} g_h^(i-j) (q_i . k_j / sqrt(K)) v_j
//   y    = out_proj(groupnorm(o))     a group a head, no affine part, eps 1e-5 whatever the model's norm says
//
// What may differ (config.h):
//   decay.source      learned: log g = logsigmoid(b), b (H).   gated: log g = logsigmoid(W x + b), W (H,C), a number a head and token
//   rope_before_map   q = relu(E rope(q) + b), and k alike
//   output_norm       denominator: o_i / (sum_{j<=i} g_h^(i-j) q_i . k_j / sqrt(K) + 1e-6), from a last column of ones beside v; none: o
//   output_gate       y = out_proj(norm(o) * sigmoid(Z x + c))
//
// so the layer is an RNN: S <- g S + k v^T / sqrt(K), o = q S. parts = { S (B,H,K,V) }, the sum after the last step.
// linear_open_lm stores g S instead; evaluation/verify.cpp converts where it compares.
class SupraAttention : public Mixer {
 public:
  SupraAttention(const Config& config, int64_t layer);
  MixerKind kind() const override { return MixerKind::supra; }
  void visit(const std::string& path, const VisitParameters& f) override;
  // relu(E (W x + a) + b) = relu((E W) x + E a + b): in_proj makes mapped q and k, and the feature maps are gone. Only where in_proj is
  // f32, the product has fewer elements than its factors, and E is small enough to be multiplied at every start.
  bool fold() override;
  void to(Device device, Dtype activations) override;
  LayerState init_state(int64_t batch) const override;
  size_t state_bytes(int64_t position) const override;
  Var forward(const Var& x, const Steps& steps, LayerState* state) const override;

  // What out_proj is applied to, (B,T,H*V).
  Var features(const Var& x, const Steps& steps, LayerState* state) const;
  const Linear& out_proj() const { return out_proj_; }
  // Decays start as the fixed ones, an output gate as sigmoid(3).
  void init_neutral() override;
  // (H) log g in f64, fixed or as learned; of a gated layer, where it follows the token, an undefined tensor.
  Tensor log_decay() const;

 protected:
  // q, k and v as in_proj makes them, (B,T,H*head_dim + G*(head_dim+V)).
  virtual Var project(const Var& x, const Steps&, LayerState*) const {
    return qkv_clip_ > 0 ? hard_cap(in_proj_(x), qkv_clip_) : in_proj_(x);
  }
  // What the layer's heads make of q (B,T,H,K), k (B,T,G,K) and v (B,T,G,V), which `before` is still to be done to: (B,T,H,V), normed.
  virtual Var attend(const Var& x, const Var& q, const Var& k, const Var& v, const Features& before, const Steps& steps, LayerState* state) const;
  Var normed(const Var& o) const;      // by the group norm, where the layer has one
  Var log_decays(const Var& x) const;  // (H) or (B,T,H)
  int64_t state_columns() const { return value_dim_ + (output_norm_ == OutputNorm::denominator ? 1 : 0); }

  int64_t heads_, kv_heads_, head_dim_, key_dim_, value_dim_;
  Rope rope_;
  double qkv_clip_;
  QkNorm qk_norm_;
  bool per_head_map_, rope_first_, output_gate_, folded_ = false;
  DecayConfig::Source decay_source_;
  OutputNorm output_norm_;
  Linear in_proj_;            // rows: H*head_dim of q, G*head_dim of k, G*V of v
  Linear q_map_, k_map_;      // the feature maps; k_map_ only where G != H
  Norm q_norm_, k_norm_;
  Linear decay_gate_;         // (H,C); without a weight where the decay is learned but the same for all tokens
  Linear z_proj_;             // (H*V,C), only with an output gate
  Linear out_proj_;           // (C, H*V)
  Tensor log_decay_;          // (H) f64, fixed
  Tensor gpu_log_decay_;      // the same in f32, where the layer is on the GPU
};

// s_h >= 0 of g_h = exp(-s_h), h = 0..H-1.
//   lightning: 2^(-8 (h+1) / H), or start * ratio^h with the same ratio. Where H is no power of two: the slopes of the
//   next lower power c, then every second slope of 2c (the published ALiBi rule; the original code raises there).
//     With a start of its own those are the first slopes again: give a start only to a power of two of heads.
//   retnet: -log(1 - 2^(-5-h)).   none: 0.
std::vector<double> decay_slopes(int64_t heads, const DecayConfig& config);

}  // namespace supra
