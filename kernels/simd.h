#pragma once
#include <stdint.h>

// The table of fast CPU kernels. Each is written once, in foo.simd.cpp, compiled once a level into a namespace of its own
// (see vec.h) and reached through simd(). They run in one thread on raw pointers, outputs first; the op beside them cuts
// the work with parallel_for. To add one: a line here, a definition there.

#define SUPRA_SIMD_KERNELS(KERNEL)                                                                                    \
  /* rmsnorm.simd.cpp: y, x, dx, dy (N,C)  rstd (N)  w (C)  dw (C) += */                                              \
  KERNEL(rmsnorm_fwd, (float* y, float* rstd, const float* x, const float* w, int64_t N, int64_t C, float eps))       \
  KERNEL(rmsnorm_bwd, (float* dx, float* dw, const float* dy, const float* x, const float* w, const float* rstd,      \
                       int64_t N, int64_t C))                                                                         \
  /* exp.simd.cpp: y[i] = e^x[i] */                                                                                   \
  KERNEL(exp_array, (float* y, const float* x, int64_t n))                                                            \
  /* gemm.simd.cpp: gemm() of gemm.h in one thread, for tiles inside of other kernels */                              \
  KERNEL(gemm_tile, (bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,  \
                     int64_t ldb, bool accumulate, float* c, int64_t ldc))                                            \
  /* gemm.simd.cpp: c (M,N) (+)= a (M,K) b(N,K)^T for M <= 4; every row of b is read once, in place */                \
  KERNEL(gemm_dots, (int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b, int64_t ldb,       \
                     bool accumulate, float* c, int64_t ldc))

namespace supra {

#define SUPRA_DECLARE(name, args) void name args;
namespace baseline { SUPRA_SIMD_KERNELS(SUPRA_DECLARE) }
#if defined(__x86_64__)
namespace avx2 { SUPRA_SIMD_KERNELS(SUPRA_DECLARE) }
namespace avx512 { SUPRA_SIMD_KERNELS(SUPRA_DECLARE) }
#endif
#undef SUPRA_DECLARE

struct Simd {
#define SUPRA_FIELD(name, args) void(*name) args;
  SUPRA_SIMD_KERNELS(SUPRA_FIELD)
#undef SUPRA_FIELD
};

// The kernels of the level in use (tensor/cpu.h).
const Simd& simd();

}  // namespace supra
