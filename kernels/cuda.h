#pragma once
#include <cstdint>

#include "tensor/cuda.h"
#include "tensor/dtype.h"

// The kernels written for the GPU: pointers to its memory and sizes, outputs first, the work goes to the
// current stream (tensor/cuda.h). Formulas stand in the .cpp of the same stem, which calls these for tensors
// on a GPU. Sums are f32 in a fixed order: the same input gives the same bits. A launch that fails throws
// Error.

namespace supra::cuda {

// ---- rmsnorm.cu.  x, y, dx, dy (N,C)  w, dw (C)  rstd (N).   y, rstd, dx: =   dw: +=, or null
SUPRA_CU void rmsnorm_fwd(float* y, float* rstd, const float* x, const float* w, int64_t N, int64_t C,
                          double eps);
SUPRA_CU void rmsnorm_fwd(Bf16* y, float* rstd, const Bf16* x, const float* w, int64_t N, int64_t C,
                          double eps);
SUPRA_CU void rmsnorm_bwd(float* dx, float* dw, const float* dy, const float* x, const float* w,
                          const float* rstd, int64_t N, int64_t C);
SUPRA_CU void rmsnorm_bwd(Bf16* dx, float* dw, const Bf16* dy, const Bf16* x, const float* w,
                          const float* rstd, int64_t N, int64_t C);

// ---- linear_attention.cu, linear_attention_mma.cu
// Arguments as ops.h describes them: q (B,T,H,K)  k (B,T,Gk,K)  v (B,T,Gv,V)  log_decay (H) or (B,T,H)  state
// (B,H,K,V) Two tokens of q lie q_step elements apart, so q, k and v may be columns of one wider matrix.
struct LinearAttentionSizes {
  int64_t B, T, H, Gk, Gv, K, V;
  int64_t q_step, k_step, v_step;
  bool decay_by_token;
  float scale;
};
template <class T>
struct LinearAttentionInputs {
  const T *q, *k, *v;
  const float* log_decay;
  const float* state;      // null: zeros
  const int32_t* lengths;  // (B) steps of each row; null: T
  LinearAttentionSizes n;
};

// o (B,T,H,V): =   last_state (B,H,K,V): =, may be the state.   K <= 512. bf16 with K and V of 64 or 128
// takes the tensor cores: q, k, v, S enter the products as bf16, sums and S itself are f32.
SUPRA_CU void linear_attention_fwd(float* o, float* last_state, const LinearAttentionInputs<float>& in);
SUPRA_CU void linear_attention_fwd(Bf16* o, float* last_state, const LinearAttentionInputs<Bf16>& in);
// One step, T = 1, of rows of any length: the state (B,H,K,V) in place, `in.state` and `in.lengths` are not
// looked at.
SUPRA_CU void linear_attention_step(float* o, float* state, const LinearAttentionInputs<float>& in);
SUPRA_CU void linear_attention_step(Bf16* o, float* state, const LinearAttentionInputs<Bf16>& in);

}  // namespace supra::cuda
