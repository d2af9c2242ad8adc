#pragma once
#include <cstdint>

#include "tensor/cuda.h"
#include "tensor/dtype.h"

// The kernels written for the GPU: pointers to its memory and sizes, outputs first, the work goes to the
// current stream (tensor/cuda.h). Formulas stand in the .cpp of the same stem, which calls these for tensors
// on a GPU. Sums are f32 in a fixed order: the same input gives the same bits. A launch that fails throws
// Error.

namespace supra::cuda {

// Each is there for T = float and T = Bf16.

// ---- rmsnorm.cu.  x, y, dx, dy (N,C)  w, dw (C)  rstd (N).   y, rstd, dx: =   dw: +=, or null
template <class T>
SUPRA_CU void rmsnorm_fwd(T* y, float* rstd, const T* x, const float* w, int64_t N, int64_t C, double eps);
template <class T>
SUPRA_CU void rmsnorm_bwd(T* dx, float* dw, const T* dy, const T* x, const float* w, const float* rstd,
                          int64_t N, int64_t C);

// ---- linear_attention.cu, linear_attention_mma.cu
// Arguments as ops.h describes them: q (B,T,H,K)  k (B,T,Gk,K)  v (B,T,Gv,V)  log_decay (H) or (B,T,H)
// state (B,H,K,V). Two tokens of q lie q_step elements apart: q, k and v may be columns of one wider matrix.
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

// o (B,T,H,V): =   last_state (B,H,K,V): =, may be in.state.   K <= 512. Bf16 with K and V of 64 or 128 takes
// the tensor cores: q, k, v, S enter the products as bf16, sums and S itself are f32.
template <class T>
SUPRA_CU void linear_attention_fwd(T* o, float* last_state, const LinearAttentionInputs<T>& in);
// One step, T = 1: the state (B,H,K,V) in place; in.state and in.lengths are not looked at.
template <class T>
SUPRA_CU void linear_attention_step(T* o, float* state, const LinearAttentionInputs<T>& in);

// ---- gemv.cu.  y (N,O) = x (N,C) w(O,C)^T + bias (O) or null.   w as stored: f32, f16, bf16 or quantised
constexpr int64_t kGemvRows = 8;  // N at most
template <class T>
SUPRA_CU void gemv(T* y, const T* x, const void* w, Dtype dtype, const float* bias, int64_t N, int64_t O,
                   int64_t C);

// ---- softmax_attention.cu, softmax_attention_mma.cu
// q (B,T,H,K)  k (B,S,G,K)  v (B,S,G,V)  o (B,T,H,V)  lse (B,T,H): formulas and backward in
// softmax_attention.cpp
struct SoftmaxAttentionSizes {
  int64_t B, T, H, S, G, K, V;
  int64_t window;  // S where there is none
  float scale;
};
template <class T>
struct SoftmaxAttentionInputs {
  const T *q, *k, *v;
  const int32_t* first;      // (B)
  const int32_t* documents;  // (B,T): where the document of each query begins among the keys; null: at 0
  SoftmaxAttentionSizes n;
};

// Bf16 with K = V of 64 or 128 takes the tensor cores: probabilities and their gradients enter the products
// as bf16, sums are f32. Others: K + V up to about 500, what shared memory holds.   o, lse, dq, dk, dv: =
template <class T>
SUPRA_CU void softmax_attention_fwd(T* o, float* lse, const SoftmaxAttentionInputs<T>& in);
template <class T>
SUPRA_CU void softmax_attention_bwd(T* dq, T* dk, T* dv, const T* d_o, const T* o, const float* lse,
                                    const SoftmaxAttentionInputs<T>& in);

}  // namespace supra::cuda
