#include "kernels/gemm.h"

#include <algorithm>

#include "kernels/simd.h"
#include "tensor/device.h"
#include "tensor/parallel.h"

namespace supra {

float* gemm_workspace() {
  thread_local const std::shared_ptr<void> buffer = allocate(kGemmWorkspace * sizeof(float));
  return static_cast<float*>(buffer.get());
}

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,
          int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  simd().gemm_tile(ta, tb, M, N, K, a, lda, b, ldb, accumulate, c, ldc);
}

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const double* a, int64_t lda, const double* b,
          int64_t ldb, bool accumulate, double* c, int64_t ldc) {
  parallel_for(M, 1 + 16384 / std::max<int64_t>(1, N * K), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      double* row = c + i * ldc;
      if (!accumulate) std::fill(row, row + N, 0.0);
      for (int64_t k = 0; k < K; k++) {
        const double left = ta ? a[k * lda + i] : a[i * lda + k];
        for (int64_t j = 0; j < N; j++) row[j] += left * (tb ? b[j * ldb + k] : b[k * ldb + j]);
      }
    }
  });
}

}  // namespace supra
