#include "kernels/state_attention.h"

// delta_attention (Gated Delta Networks, arXiv 2412.06464):
//   S = g_t S_{t-1}    e_t = v_t - S^T k_t    S_t = S + beta_t k_t e_t^T    o_t = S_t^T q_t.   Shapes: ops.h
// Reference, backward and what is saved for it: state_attention.cpp. Fast code: delta_attention.simd.cpp.

namespace supra {

LinearAttention delta_attention(const Var& q, const Var& k, const Var& v, const Var& log_decay, const Var& beta,
                                const Var& state, const std::vector<int64_t>& lengths, const Cuts& cuts) {
  return state_attention(StateCall("delta_attention", q.value(), k.value(), v.value(), log_decay.value(), beta.value(),
                                   state.defined() ? state.value() : Tensor(), 1, lengths, cuts),
                         {q, k, v, log_decay, state, beta});
}

Tensor delta_attention_step(const Tensor& state, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay,
                            const Tensor& beta) {
  return state_attention_step({"delta_attention_step", q, k, v, log_decay, beta, {}, 1}, state, 1);
}

}  // namespace supra
