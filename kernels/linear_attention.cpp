#include "kernels/cuda_attention.h"
#include "kernels/state_attention.h"

// linear_attention (SUPRA, arXiv 2405.06640): S_t = g_t S_{t-1} + scale k_t v_t^T,  o_t = q_t S_t.   Shapes: ops.h
// Reference, backward and what is saved for it: state_attention.cpp. Fast code: linear_attention.simd.cpp.

namespace supra {

LinearAttention linear_attention(const Var& q, const Var& k, const Var& v, const Var& log_decay, double scale, const Var& state,
                                 const std::vector<int64_t>& lengths, double norm_eps, const Cuts& cuts,
                                 const Features& features) {
  StateCall call("linear_attention", q.value(), k.value(), v.value(), log_decay.value(), {},
                 state.defined() ? state.value() : Tensor(), scale, lengths, cuts);
  const bool has_features = features.rope.layout != Rope::Layout::none || features.of_relu;
  if (has_features && !fuse_features(call, features)) {
    const auto feature = [&](const Var& x) {
      return rope(features.of_relu ? relu_slope(x) : x, features.rope, features.first, cuts);
    };
    return linear_attention(feature(q), feature(k), v, log_decay, scale, state, lengths, norm_eps, cuts);
  }
  if (norm_eps > 0 && q.dtype() == Dtype::f64) {
    const LinearAttention plain = linear_attention(q, k, v, log_decay, scale, state, lengths, 0, cuts);
    const Shape rows = {-1, q.dim(2) * v.dim(3)};
    return {reshape(groupnorm(reshape(plain.o, rows), q.dim(2), norm_eps), plain.o.shape()), plain.state};
  }
  call.norm_eps = norm_eps;
  return state_attention(std::move(call), {q, k, v, log_decay, state});
}

Tensor linear_attention_step(const Tensor& state, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay,
                             double scale) {
  const StateCall call("linear_attention_step", q, k, v, log_decay, {}, {}, scale);
  const bool shared = call.Gk == call.Gv && state.rank() == 4 && state.dim(1) == call.Gk;
  return state_attention_step(call, state, shared ? call.H / call.Gk : 1);
}

}  // namespace supra
