#pragma once
#include "nn/softmax_attention.h"
#include "supra/supra_attention.h"

namespace supra {

// The gated delta rule (Gated Delta Networks, arXiv 2412.06464): a SUPRA layer whose state overwrites what a key held before.
// q and k are normalised to length 1; decay, output norm and output gate are SUPRA's:
//
//   q, k = l2norm(rope(map(q))), l2norm(rope(map(k)))
//   S <- g S;   u = beta (v - S^T k);   S <- S + k u^T;   o = S^T q      beta = sigmoid(W x + b), one per head and token
//
// With a short convolution, each channel of q, k and v after in_proj is first mixed with its three previous values.
// parts = { S (B,H,K,V) }, and with a convolution also its last inputs (B,3,H*head_dim + G*(head_dim+V)).
class DeltaAttention : public SupraAttention {
 public:
  DeltaAttention(const Config& config, int64_t layer);
  MixerKind kind() const override { return MixerKind::delta; }
  void visit(const std::string& path, const VisitParameters& f) override;
  bool fold() override { return !convolution_.weight.defined() && SupraAttention::fold(); }
  // Like start_as() without a teacher: half-lives of 11 tokens, beta 0.5.
  void init_neutral() override;
  // Sets the gates' biases from the teacher's heads. Half-lives follow the mean distance of a head's keys, within 3 to 32,
  // and beta = 0.3 + 0.4 (1 - entropy) (Taylor-Calibrate, arXiv 2606.16429).
  void start_as(const std::vector<HeadReach>& teacher) const;
  bool is_fresh() const;  // training has not changed the gates

 protected:
  std::vector<StatePart> state_parts(int64_t position) const override;
  Var project(const Var& x, const Steps& steps, LayerState* state) const override;
  Var attend(const Var& x, const Var& q, const Var& k, const Var& v, const Features& before, const Steps& steps, LayerState* state) const override;

 private:
  Linear beta_;         // (H,C)
  Linear convolution_;  // (4, channels): weights of the current step, the previous one, ...
};

}  // namespace supra
