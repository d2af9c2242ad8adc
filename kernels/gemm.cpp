#include "kernels/gemm.h"

#include <algorithm>

#include "kernels/blas.h"
#include "kernels/simd.h"
#include "tensor/device.h"
#include "tensor/parallel.h"

namespace supra {

// Fewer multiplications than this are not worth waking another thread.
static constexpr int64_t kGrain = 1 << 18;

float* gemm_workspace() {
  thread_local const std::shared_ptr<void> buffer = allocate(kGemmWorkspace * sizeof(float));
  return static_cast<float*>(buffer.get());
}

namespace {

struct Grid {
  int64_t rows, columns;
};

// Cuts C into `pieces` of one shape, as square as their number allows: what a piece reads is its rows and its
// columns.
Grid cut(int64_t pieces, int64_t M, int64_t N) {
  Grid best = {pieces, 1};
  for (int64_t rows = 1; rows <= pieces; rows++) {
    const int64_t columns = pieces / rows;
    if (rows * columns == pieces && M / rows + N / columns < M / best.rows + N / best.columns)
      best = {rows, columns};
  }
  return best;
}

// Where part i of n of a size begins, at whole micro-tiles.
int64_t border(int64_t i, int64_t n, int64_t size, int64_t tile) {
  return i == n ? size : size * i / n / tile * tile;
}

}  // namespace

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,
          int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  if (M <= 4 && !ta && tb) {
    const int64_t grain = kGrain / std::max<int64_t>(1, M * K);
    return parallel_for(N, grain, [&](int64_t begin, int64_t end) {
      simd().gemm_dots(M, end - begin, K, a, lda, b + begin * ldb, ldb, accumulate, c + begin, ldc);
    });
  }
  const auto multiply = blas_takes(M, N, K) ? blas_gemm : simd().gemm_tile;
  const int64_t pieces = std::clamp<int64_t>(M * N * std::max<int64_t>(1, K) / kGrain, 1, threads());
  const Grid grid = cut(pieces, M, N);
  parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; piece++) {
      const int64_t row = piece / grid.columns, column = piece % grid.columns;
      const int64_t i = border(row, grid.rows, M, 8), rows = border(row + 1, grid.rows, M, 8) - i;
      const int64_t j = border(column, grid.columns, N, 16),
                    columns = border(column + 1, grid.columns, N, 16) - j;
      multiply(ta, tb, rows, columns, K, ta ? a + i : a + i * lda, lda, tb ? b + j * ldb : b + j, ldb,
               accumulate, c + i * ldc + j, ldc);
    }
  });
}

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const double* a, int64_t lda, const double* b,
          int64_t ldb, bool accumulate, double* c, int64_t ldc) {
  parallel_for(M, kGrain / std::max<int64_t>(1, N * K), [&](int64_t begin, int64_t end) {
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
