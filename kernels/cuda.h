#pragma once
#include <compare>
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

// ---- gemm.cu.  C (M,N) = op(A) (M,K) op(B) (K,N) + bias (N), or += without a bias; row-major, as gemm.h describes.
// `batch` such products have their matrices *_step elements apart and no bias.
struct Product {
  bool ta = false, tb = false;
  int64_t M, N, K, lda, ldb, ldc;
  int64_t batch = 1, a_step = 0, b_step = 0, c_step = 0;
  auto operator<=>(const Product&) const = default;
};
// T, Out: both float, both Bf16, or Bf16 and float. Sums are f32, and float is float throughout, without TF32.
template <class T, class Out>
SUPRA_CU void gemm(const Product& p, const T* a, const T* b, bool accumulate, Out* c, const Out* bias = nullptr);
// From now on products that come for the first time try several algorithms and take the fastest. Off at first,
// unless SUPRA_GEMM=timed: two runs may choose differently, and differ in their last bits.
SUPRA_CU void time_products(bool on);

// ---- rows.cu.  sums (C) += the sum over the rows of x (N,C);   y (N,C) = row (C), N times
template <class T>
SUPRA_CU void add_rows(float* sums, const T* x, int64_t N, int64_t C);
template <class T>
SUPRA_CU void repeat_row(T* y, const float* row, int64_t N, int64_t C);

// ---- cross_entropy.cu
struct CrossEntropy {
  int64_t N, O;
  float z_loss, weight, teacher_weight;
};
// losses (N): =   dx (N,O): = weight * dy[0] times the gradient, may be x; either may be null. x, teacher (N,O)
// targets (N): negative ones are left out, with 0 for loss and gradient. teacher: null where teacher_weight is 0;
// dy: null is 1.   T, D: both float, both Bf16, or float and Bf16.
template <class T, class D>
SUPRA_CU void cross_entropy(float* losses, D* dx, const T* x, const float* teacher, const int32_t* targets,
                            const float* dy, const CrossEntropy& n);
// sum[0] = factor * the sum of x (N)
SUPRA_CU void scaled_sum(float* sum, const float* x, int64_t N, double factor);
// x (n) *= factor[0]
template <class T>
SUPRA_CU void scale_by(T* x, const float* factor, int64_t n);

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

}  // namespace supra::cuda
