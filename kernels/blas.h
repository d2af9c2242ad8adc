#pragma once
#include <cstdint>
#include <string>

// OpenBLAS. It is used only if it is linked (macro SUPRA_OPENBLAS), asked for (SUPRA_BLAS=openblas) and made for this
// processor. The built-in kernels are the default: they are as fast, and give the same bits for any number of threads.

namespace supra {

// gemm() of gemm.h by OpenBLAS in the calling thread, or null if OpenBLAS does not compute products of this size. Throws Error
// if SUPRA_BLAS is neither openblas nor builtin.
using Gemm = void (*)(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,
                      int64_t ldb, bool accumulate, float* c, int64_t ldc);
Gemm blas_gemm_for(int64_t M, int64_t N, int64_t K);

// One line for the user: which implementation multiplies matrices, and why.
std::string blas_note();

}  // namespace supra
