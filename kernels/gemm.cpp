#include "kernels/gemm.h"

#include <algorithm>

#include "kernels/blas.h"
#include "kernels/dispatch.h"
#include "kernels/products.h"
#include "kernels/simd.h"
#include "tensor/device.h"
#include "tensor/kept.h"

namespace supra {

// Fewer multiplications than this are not worth waking another thread.
static constexpr int64_t kGrain = 1 << 18;

float* gemm_workspace() {
  struct Workspace {
    std::shared_ptr<void> memory = allocate(kGemmWorkspace * sizeof(float));
  };
  return static_cast<float*>(kept().get<Workspace>().memory.get());
}

#if defined(SUPRA_INFERENCE)
// products.cpp is not here
Products products() { return Products::f32; }
Bf16Gemm bf16_gemm_for(int64_t, int64_t, int64_t) { return nullptr; }
#endif

namespace {

// Every piece of C begins at a whole micro-tile of any level, and is large enough to pay for packing its factors.
constexpr int64_t kRowUnit = 32, kColumnUnit = 48, kBf16ColumnUnit = 64;

struct Grid {
  int64_t rows, columns;
};

// Cuts C into pieces of one shape: as many as may be, evenly divided among the threads, and among those the cut that copies
// least. Every piece packs its part of op(B), and of op(A) if that is transposed or rounded; otherwise it reads A in place.
Grid cut(int64_t M, int64_t N, int64_t K, bool packs_a, int64_t column_unit) {
  const int64_t all = threads(), most = std::clamp<int64_t>(M * N * std::max<int64_t>(1, K) / kGrain, 1, 4 * all);
  Grid best = {1, 1};
  int64_t least = 0;
  for (int64_t rows = 1; rows <= std::min(most, std::max<int64_t>(1, M / kRowUnit)); rows++) {
    for (int64_t columns = 1; columns <= std::min(most / rows, std::max<int64_t>(1, N / column_unit)); columns++) {
      const int64_t pieces = rows * columns;
      if (pieces > all && pieces % all != 0) continue;
      const int64_t copied = 4 * rows * N + (packs_a ? 4 : 1) * columns * M;
      // busy threads count most; beyond that, more pieces are worth an eighth more copying
      const int64_t cost = copied * 8 / (pieces < all ? pieces : 8 * all + pieces);
      if (least == 0 || cost < least) best = {rows, columns}, least = cost;
    }
  }
  return best;
}

// Part i of n of a size, which begins at a whole unit.
struct Part {
  int64_t begin, size;
};
Part part_of(int64_t i, int64_t n, int64_t size, int64_t unit) {
  const auto border = [=](int64_t j) { return j == n ? size : size * j / n / unit * unit; };
  return {border(i), border(i + 1) - border(i)};
}

}  // namespace

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b, int64_t ldb,
          bool accumulate, float* c, int64_t ldc) {
  if (M <= 4 && !ta && tb) {
    return parallel_for(N, kGrain / std::max<int64_t>(1, M * K), [&](int64_t begin, int64_t end) {
      simd().gemm_dots(M, end - begin, K, a, lda, b + begin * ldb, Dtype::f32, ldb, accumulate, c + begin, ldc);
    });
  }
  const Gemm blas = blas_gemm_for(M, N, K), exact = blas ? blas : simd().gemm_tile;
  const Bf16Gemm in_bf16 = bf16_gemm_for(M, N, K);
  const int64_t column_unit = in_bf16 ? kBf16ColumnUnit : kColumnUnit;
  const Grid grid = cut(M, N, K, ta || in_bf16, column_unit);
  const auto multiply = [=](auto... args) { in_bf16 ? in_bf16(products(), args...) : exact(args...); };
  parallel_for(grid.rows * grid.columns, 1, [&](int64_t begin, int64_t end) {
    for (int64_t piece = begin; piece < end; piece++) {
      const Part rows = part_of(piece / grid.columns, grid.rows, M, kRowUnit);
      const Part columns = part_of(piece % grid.columns, grid.columns, N, column_unit);
      multiply(ta, tb, rows.size, columns.size, K, a + rows.begin * (ta ? 1 : lda), lda, b + columns.begin * (tb ? ldb : 1),
               ldb, accumulate, c + rows.begin * ldc + columns.begin, ldc);
    }
  });
}

void gemm(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const double* a, int64_t lda, const double* b, int64_t ldb,
          bool accumulate, double* c, int64_t ldc) {
  parallel_each(M, kGrain / std::max<int64_t>(1, N * K), [&](int64_t i) {
    double* row = c + i * ldc;
    if (!accumulate) std::fill(row, row + N, 0.0);
    for (int64_t k = 0; k < K; k++) {
      const double left = ta ? a[k * lda + i] : a[i * lda + k];
      for (int64_t j = 0; j < N; j++) row[j] += left * (tb ? b[j * ldb + k] : b[k * ldb + j]);
    }
  });
}

}  // namespace supra
