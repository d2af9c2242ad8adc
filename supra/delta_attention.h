#pragma once
#include "nn/softmax_attention.h"
#include "supra/supra_attention.h"

namespace supra {

// The gated delta rule (Gated Delta Networks, arXiv 2412.06464): the SUPRA layer with a state that overwrites. The gated decay,
// the norm and the gate on the way out are SUPRA's, and so are the switches for them; q and k are normalised to length 1:
//
//   q, k = l2norm(rope(map(q))), l2norm(rope(map(k)))
//   S <- g S;   u = beta (v - S^T k);   S <- S + k u^T;   o = S^T q      beta = sigmoid(W x + b), a number a head and token
//
// With a short convolution, each channel of q, k and v that in_proj makes is first mixed with its three values before.
// parts = { S (B,H,K,V) }, and of a convolution the last inputs (B,3,H*head_dim + G*(head_dim+V)).
class DeltaAttention : public SupraAttention {
 public:
  DeltaAttention(const Config& config, int64_t layer);
  MixerKind kind() const override { return MixerKind::delta; }
  void visit(const std::string& path, const VisitParameters& f) override;
  bool fold() override { return !convolution_.weight.defined() && SupraAttention::fold(); }
  void to(Device device, Dtype activations) override;
  // As start_as() without a teacher: half-lives of 11 tokens, beta 0.5.
  void init_neutral() override;
  // Gates that see no token yet, after what the teacher's heads do: the mean distance of their keys, with half-lives within
  // 3 to 32 tokens, and beta = 0.3 + 0.4 (1 - entropy) (Taylor-Calibrate, arXiv 2606.16429).
  void start_as(const std::vector<HeadReach>& teacher) const;
  bool is_fresh() const;  // no training has changed them

  LayerState init_state(int64_t batch) const override;
  size_t state_bytes(int64_t position) const override;

 protected:
  Var project(const Var& x, const Steps& steps, LayerState* state) const override;
  Var attend(const Var& x, const Var& q, const Var& k, const Var& v, const Features& before, const Steps& steps, LayerState* state) const override;

 private:
  Linear beta_;         // (H,C)
  Linear convolution_;  // (4, channels): of the step itself, the one before, ...
};

}  // namespace supra
