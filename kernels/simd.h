#pragma once
#include <stdint.h>

#include "kernels/activation.h"
#include "kernels/adamw.h"
#include "kernels/attention.h"
#include "kernels/gemv.h"
#include "kernels/products.h"
#include "tensor/dtype.h"

// The table of fast CPU kernels. Each is written once, in foo.simd.cpp, compiled once for each level into its own namespace
// (see vec.h), and called through simd(). Kernels run in one thread on raw pointers, outputs first; their op divides the work
// among the threads. To add one: a line here, a definition there. KERNEL is in every build. TRAINING (and the measuring of the
// processor) is left out of builds for inference alone. PROGRAM is left out of the library for hosts, which computes no losses.
// Shapes and formulas are at the top of foo.cpp; here stands only what foo.cpp does not say.

#define SUPRA_SIMD_KERNELS(KERNEL, PROGRAM, TRAINING)                                                                 \
  KERNEL(rmsnorm_fwd, (float* y, float* rstd, const float* x, const float* w, int64_t N, int64_t C, float eps))       \
  TRAINING(rmsnorm_bwd, (float* dx, float* dw, const float* dy, const float* x, const float* w, const float* rstd,    \
                         int64_t N, int64_t C))                                                                       \
  KERNEL(layernorm_fwd, (float* y, float* mean, float* rstd, const float* x, const float* w, const float* b,          \
                         int64_t N, int64_t C, float eps))                                                            \
  TRAINING(layernorm_bwd, (float* dx, float* dw, float* db, const float* dy, const float* x, const float* w,          \
                           const float* mean, const float* rstd, int64_t N, int64_t C))                               \
  KERNEL(groupnorm_fwd, (float* y, float* rstd, const float* x, int64_t N, int64_t D, float eps))                     \
  TRAINING(groupnorm_bwd, (float* dx, const float* dy, const float* y, const float* rstd, int64_t N, int64_t D))      \
  /* rope.simd.cpp: y, x (H,K); head h takes its dims/2 (half) or dims (interleaved) angles from h * head_step on */  \
  KERNEL(rope, (float* y, const float* x, const float* cosine, const float* sine, bool interleaved, int64_t H,        \
                int64_t K, int64_t dims, int64_t head_step, float direction))                                         \
  /* cross_entropy.simd.cpp: largest = max x, total = sum e^(x - largest);  y = or += factor e^(x - shift) */         \
  PROGRAM(max_exp_sum, (float* largest, double* total, const float* x, int64_t n))                                    \
  PROGRAM(exp_scaled, (float* y, const float* x, float shift, float factor, int64_t n, bool add))                     \
  /* total = sum e^(t - shift) (t - x) */                                                                             \
  TRAINING(exp_weighted_gap, (double* total, const float* t, const float* x, float shift, int64_t n))                 \
  TRAINING(adamw, (float* w, float* m, float* v, const float* g, int64_t n, const AdamwFactors& factors))             \
  TRAINING(sum_squares, (double* sum, const float* x, int64_t n))                                                     \
  KERNEL(add, (float* y, const float* a, const float* b, int64_t n))                                                  \
  KERNEL(mul, (float* y, const float* a, const float* b, int64_t n))                                                  \
  KERNEL(scale, (float* y, const float* x, float factor, int64_t n))                                                  \
  KERNEL(activation_fwd, (float* y, const float* x, int64_t n, Activation f))                                         \
  TRAINING(activation_bwd, (float* dx, const float* dy, const float* x, int64_t n, Activation f))                     \
  KERNEL(swiglu_fwd, (float* y, const float* gate_up, int64_t N, int64_t F))                                          \
  TRAINING(swiglu_bwd, (float* dgate_up, const float* dy, const float* gate_up, int64_t N, int64_t F))                \
  KERNEL(softmax_features_fwd, (float* y, const float* x, int64_t N, int64_t f))                                      \
  TRAINING(softmax_features_bwd, (float* dx, const float* dy, const float* y, int64_t N, int64_t f))                  \
  /* gemm.simd.cpp: gemm() of gemm.h in one thread, for tiles inside of other kernels */                              \
  KERNEL(gemm_tile, (bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,  \
                     int64_t ldb, bool accumulate, float* c, int64_t ldc))                                            \
  /* bf16_gemm.simd.cpp: the same with factors in bf16, as products.h defines it; products: bf16 or bf16x3, K > 0 */     \
  TRAINING(bf16_gemm_tile, (Products products, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a,     \
                            int64_t lda, const float* b, int64_t ldb, bool accumulate, float* c, int64_t ldc))        \
  /* the most it can do: the same block of both factors again and again */                                             \
  TRAINING(bf16_loop, (double* flop, int64_t rounds))                                                                 \
  /* gemv.simd.cpp: c (M,N) (+)= a (M,K) b(N,K)^T for M <= 4, reading every row of b once, in place: f32, f16, bf16 b */\
  KERNEL(gemm_dots, (int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, Dtype dtype,        \
                     int64_t ldb, bool accumulate, float* c, int64_t ldc))                                            \
  /* c (M,N) = a (M,K) b(K,N) for M <= 4 and f16 b, reading it once: values of a decoded token */                      \
  KERNEL(f16_sum_of_rows, (int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, int64_t ldb,  \
                           float* c, int64_t ldc))                                                                    \
  /* a row of stored weights in f32 */                                                                                \
  KERNEL(to_f32, (float* x, const void* row, Dtype dtype, int64_t n))                                                 \
  /* int8_dots.simd.cpp: the same for quantised b; a row of activations for weights of that dtype */                           \
  KERNEL(int8_gemm_dots, (int64_t M, int64_t N, int64_t K, const Int8Rows& a, const void* b, Dtype dtype,             \
                          int64_t row_bytes, bool accumulate, float* c, int64_t ldc))                                 \
  KERNEL(to_int8, (const Int8Rows& row, const float* x, int64_t C, Dtype dtype))                                      \
  /* softmax_attention.simd.cpp: queries [begin, end) of one head of one document; all of them, backwards */          \
  KERNEL(softmax_attention_fwd, (float* o, float* lse, const SoftmaxHead<float>& head, int64_t begin, int64_t end,    \
                                 float* memory))                                                                      \
  TRAINING(softmax_attention_bwd, (const SoftmaxGrads<float>& grads, const float* d_o, const float* o,                \
                                   const float* lse, const SoftmaxHead<float>& head, float* memory))                  \
  /* p = softmax(scale p), lse = log sum exp(scale p) */                                                              \
  KERNEL(softmax_row, (float* p, float* lse, int64_t n, float scale))                                                 \
  /* linear_attention.simd.cpp: one head of one document; d_o: the gradient of o; states: those that enter its        \
     chunks but the first; memory: state_scratch() */                                                                 \
  KERNEL(linear_attention_fwd, (float* o, float* last_state, float* states, const StateHead<float>& head, float* memory)) \
  TRAINING(linear_attention_bwd, (const StateGrads<float>& grads, const float* d_o, const float* states,              \
                                  const StateHead<float>& head, float* memory))                                       \
  KERNEL(linear_attention_step, (float* o, float* state, const float* q, const float* k, const float* v, float g,     \
                                 float scale, int64_t K, int64_t V))                                                  \
  /* delta_attention.simd.cpp: the same arguments */                                                                  \
  TRAINING(delta_attention_fwd, (float* o, float* last_state, float* states, const StateHead<float>& head, float* memory)) \
  TRAINING(delta_attention_bwd, (const StateGrads<float>& grads, const float* d_o, const float* states,               \
                                 const StateHead<float>& head, float* memory))                                        \
  /* roofs.simd.cpp: the limits of the processor. sink: two factors, which are overwritten; y 64-byte aligned */      \
  TRAINING(fma_loop, (double* flop, float* sink, int64_t rounds))                                                     \
  TRAINING(read_loop, (float* sum_of_all, const float* x, int64_t n))                                                 \
  TRAINING(copy_loop, (float* y, const float* x, int64_t n, bool streaming))

namespace supra {

// In the library for hosts in one file (tools/build/amalgamate.awk) they are static.
#if !defined(SUPRA_KERNEL)
#define SUPRA_KERNEL
#endif
#define SUPRA_DECLARE(name, args) SUPRA_KERNEL void name args;
namespace baseline { SUPRA_SIMD_KERNELS(SUPRA_DECLARE, SUPRA_DECLARE, SUPRA_DECLARE) }
#if defined(__x86_64__)
namespace avx2 { SUPRA_SIMD_KERNELS(SUPRA_DECLARE, SUPRA_DECLARE, SUPRA_DECLARE) }
namespace avx512 { SUPRA_SIMD_KERNELS(SUPRA_DECLARE, SUPRA_DECLARE, SUPRA_DECLARE) }
// levels that have only two kernels of their own and use avx512's for the rest
namespace avx512bf16 { using namespace avx512; decltype(avx512::bf16_gemm_tile) bf16_gemm_tile; decltype(avx512::bf16_loop) bf16_loop; }
namespace amx { using namespace avx512; decltype(avx512::bf16_gemm_tile) bf16_gemm_tile; decltype(avx512::bf16_loop) bf16_loop; }
#endif
#undef SUPRA_DECLARE

struct Simd {
#define SUPRA_FIELD(name, args) void(*name) args;
  SUPRA_SIMD_KERNELS(SUPRA_FIELD, SUPRA_FIELD, SUPRA_FIELD)
#undef SUPRA_FIELD
};

// The kernels of the level in use (tensor/cpu.h).
const Simd& simd();

}  // namespace supra
