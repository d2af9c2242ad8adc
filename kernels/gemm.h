#pragma once
#include <stdint.h>

// Matrix products, which take most of the time. Everything is row-major. op(X) is X, or its transpose if ta or tb is set. ld*
// is the distance between rows in memory, at least the width.
//
//   C (M,N) = op(A) (M,K) op(B) (K,N),  or += if `accumulate` is set.  K = 0 gives zeros.
//
// The terms of one element are added in an order that depends only on K and the CPU level: the same bits for any number of
// threads. This header has no inline code, so .simd.cpp files may include it.

namespace supra {

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b, int64_t ldb,
          bool accumulate, float* c, int64_t ldc);
// The reference: plain loops in double.
void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const double* a, int64_t lda, const double* b, int64_t ldb,
          bool accumulate, double* c, int64_t ldc);

// This thread's buffer for packed panels, 64-byte aligned; one gemm_tile() at a time uses it.
constexpr int64_t kGemmWorkspace = 1 << 18;  // floats
float* gemm_workspace();

}  // namespace supra
