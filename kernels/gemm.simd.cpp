#include "kernels/gemm.h"

#include "kernels/simd.h"
#include "kernels/vec.h"

// C is computed in micro-tiles of kRows x (kVecs vectors) that stay in registers while k runs over a block of
// kDepth. What the micro-kernel reads is laid out for it only where that pays: B in panels of kVecs vectors a
// row, so that its loads are contiguous; A in panels of kRows, if it is transposed. A in its own layout is
// read in place, row by row.

namespace supra::SUPRA_LEVEL {
namespace {

// kRows * kVecs accumulators, kVecs of B and one of A fill the 16 or 32 registers.
#if defined(__AVX512F__)
constexpr int kRows = 8, kVecs = 3;
#elif defined(__AVX2__)
constexpr int kRows = 4, kVecs = 3;
#else
constexpr int kRows = 4, kVecs = 2;
#endif
constexpr int64_t kWidth = kVecs * kLanes;
// A block of B, kDepth x kBlockColumns, is packed once and stays in the second-level cache while all rows of
// A pass by; kRows rows of A, kDepth long, stay in the first while the panels of the block pass by.
constexpr int64_t kDepth = 192, kBlockColumns = 480, kBlockRows = 96;
static_assert(kBlockColumns % kWidth == 0 && kDepth * (kBlockColumns + kBlockRows) <= kGemmWorkspace);

int64_t at_most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

// Element (i, k) of a block of A stands at data[i / kRows * group + i % kRows * row + k * step].
struct Left {
  const float* data;
  int64_t group, row, step;
};

// Element (k, j) of a panel of B stands at data[k * step + j]; the panel is `width` wide, the vectors are
// whole.
struct Right {
  const float* data;
  int64_t step, width;
};

// c (R, b.width) (+)= a b. kUnit: a's rows are neighbours, so that their addresses cost nothing.
template <int R, int V, bool kUnit>
inline void micro(int64_t K, const float* a, int64_t row, int64_t step, Right b, bool accumulate, float* c,
                  int64_t ldc) {
  if constexpr (kUnit) row = 1;
  Vec sums[R][V] = {};
  const float* p = b.data;
  for (int64_t k = 0; k < K; k++, a += step, p += b.step) {
    Vec right[V];
    for (int v = 0; v < V; v++) right[v] = load(p + v * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
      const Vec left = broadcast(a[i * row]);
      for (int v = 0; v < V; v++) sums[i][v] = fma(left, right[v], sums[i][v]);
    }
  }
  const int64_t last = b.width - (V - 1) * kLanes;
#pragma GCC unroll 8
  for (int i = 0; i < R; i++, c += ldc) {
    for (int v = 0; v < V; v++) {
      float* out = c + v * kLanes;
      if (v + 1 < V || last == kLanes) {
        store(out, accumulate ? load(out) + sums[i][v] : sums[i][v]);
      } else {
        store_first(out, accumulate ? load_first(out, last) + sums[i][v] : sums[i][v], last);
      }
    }
  }
}

// The first M < 2 R rows of a group: R at a time, then R/2, ... 1.
template <int R, int V, bool kUnit>
void rows_of_group(int64_t M, int64_t K, const float* a, int64_t row, int64_t step, Right b, bool accumulate,
                   float* c, int64_t ldc) {
  if (M >= R) {
    micro<R, V, kUnit>(K, a, row, step, b, accumulate, c, ldc);
    M -= R, a += R * row, c += R * ldc;
  }
  if constexpr (R > 1) {
    if (M > 0) rows_of_group<R / 2, V, kUnit>(M, K, a, row, step, b, accumulate, c, ldc);
  }
}

// One group of M <= kRows rows by one panel.
template <int V>
void row_group(int64_t M, int64_t K, Left a, Right b, bool accumulate, float* c, int64_t ldc) {
  if constexpr (V > 1) {
    if (b.width <= (V - 1) * kLanes) return row_group<V - 1>(M, K, a, b, accumulate, c, ldc);
  }
  if (a.row == 1) return rows_of_group<kRows, V, true>(M, K, a.data, a.row, a.step, b, accumulate, c, ldc);
  rows_of_group<kRows, V, false>(M, K, a.data, a.row, a.step, b, accumulate, c, ldc);
}

// Copies K rows of a panel, filled up with zeros to whole vectors. With tb, `b` is transposed as it stands in
// memory.
Right pack_right(float* packed, bool tb, int64_t K, Right b) {
  const int64_t step = (b.width + kLanes - 1) / kLanes * kLanes;
  for (int64_t j = 0; j < b.width; j += kLanes) {
    const int64_t n = at_most(b.width - j, kLanes);
    float* out = packed + j;
    if (!tb) {
      const float* in = b.data + j;
      for (int64_t k = 0; k < K; k++, in += b.step, out += step) {
        store(out, n == kLanes ? load(in) : load_first(in, n));
      }
      continue;
    }
    for (int64_t k = 0; k < K; k += kLanes) {
      const int64_t depth = at_most(K - k, kLanes);
      Vec block[kLanes] = {};
      const float* in = b.data + j * b.step + k;
      for (int64_t i = 0; i < n; i++, in += b.step)
        block[i] = depth == kLanes ? load(in) : load_first(in, depth);
      transpose(block);
      for (int64_t i = 0; i < depth; i++, out += step) store(out, block[i]);
    }
  }
  return {packed, step, b.width};
}

// Copies M rows of op(A) where A is transposed: a row of A holds neighbours. Groups go several at a time,
// whole cache lines of a row of A.
Left pack_left(float* packed, int64_t M, int64_t K, const float* a, int64_t lda) {
  constexpr int64_t kStretch = 64;
  for (int64_t i = 0; i < M; i += kStretch) {
    const int64_t n = at_most(M - i, kStretch), whole = n / kRows * kRows;
    const float* in = a + i;
    for (int64_t k = 0; k < K; k++, in += lda) {
      float* out = packed + i * K + k * kRows;
      for (int64_t r = 0; r < whole; r += kRows, out += kRows * K)
        __builtin_memcpy(out, in + r, sizeof(float) * kRows);
      for (int64_t r = whole; r < n; r++) out[r - whole] = in[r];
    }
  }
  return {packed, kRows * K, 1, kRows};
}

}  // namespace

void gemm_tile(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,
               int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  if (K == 0 && !accumulate) {
    for (int64_t i = 0; i < M; i++) {
      for (int64_t j = 0; j < N; j++) c[i * ldc + j] = 0;
    }
  }
  float* const packed_right = gemm_workspace();
  float* const packed_left = packed_right + kDepth * kBlockColumns;
  for (int64_t k = 0; k < K; k += kDepth) {
    const int64_t depth = at_most(K - k, kDepth);
    for (int64_t j = 0; j < N; j += kBlockColumns) {
      const int64_t columns = at_most(N - j, kBlockColumns), panels = (columns + kWidth - 1) / kWidth;
      Right right[kBlockColumns / kWidth];
      for (int64_t p = 0; p < panels; p++) {
        const int64_t first = j + p * kWidth, width = at_most(N - first, kWidth);
        right[p] = tb ? Right{b + first * ldb + k, ldb, width} : Right{b + k * ldb + first, ldb, width};
        const bool whole = width % kLanes == 0, reused = M > 4 * kRows;
        if (tb || !whole || reused)
          right[p] = pack_right(packed_right + p * kWidth * kDepth, tb, depth, right[p]);
      }
      for (int64_t i = 0; i < M; i += kBlockRows) {
        const int64_t rows = at_most(M - i, kBlockRows);
        Left left = ta ? Left{a + k * lda + i, kRows, 1, lda} : Left{a + i * lda + k, kRows * lda, lda, 1};
        if (ta && panels > 1) left = pack_left(packed_left, rows, depth, left.data, lda);
        for (int64_t r = 0; r < rows; r += kRows, left.data += left.group) {
          float* out = c + (i + r) * ldc + j;
          for (int64_t p = 0; p < panels; p++, out += kWidth)
            row_group<kVecs>(at_most(rows - r, kRows), depth, left, right[p], accumulate || k > 0, out, ldc);
        }
      }
    }
  }
}

}  // namespace supra::SUPRA_LEVEL
