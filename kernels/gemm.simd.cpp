#include "kernels/gemm.h"

#include "kernels/simd.h"
#include "kernels/vec.h"

// C is computed in micro-tiles of kRows x (kVecs vectors) that stay in registers while k runs over a block of kDepth. Factors
// are packed only if that pays: B in panels of kVecs vectors a row, so that its loads are contiguous; A in panels of kRows, if
// it is transposed. Otherwise A is read in place, row by row.

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
// A block of B, kDepth x kBlockColumns, is packed once and stays in the second-level cache while all rows of A pass by; kRows
// rows of A, kDepth long, stay in the first while the panels of the block pass by.
constexpr int64_t kDepth = 192, kBlockColumns = 480, kBlockRows = 96;
// Panels are a little further apart than they are large: at a multiple of 4096 bytes they would evict each other.
constexpr int64_t kPanel = kDepth * kWidth + 32;
constexpr int64_t kPackedLeft = kBlockColumns / kWidth * kPanel;
static_assert(kBlockColumns % kWidth == 0 && kPackedLeft + kDepth * kBlockRows <= kGemmWorkspace);

constexpr int64_t kLine = 16;

// Element (i, k) of a block of A is data[i / kRows * group + i % kRows * row + k * step].
struct Left {
  const float* data;
  int64_t group, row, step;
};

// Element (k, j) of a panel of B is data[k * step + j]; the panel is `width` wide, the vectors are whole.
struct Right {
  const float* data;
  int64_t step, width;
};

// c (R, b.width) (+)= a b. kUnit: a's rows are neighbours, so that their addresses cost nothing.
template <int R, int V, bool kUnit>
inline void micro(int64_t K, const float* a, int64_t row, int64_t step, Right b, bool accumulate, float* c, int64_t ldc) {
  if constexpr (kUnit) row = 1;
  // the tile is on its way while the sums are made
  for (int i = 0; i < R; i++) {
    for (int64_t j = 0; j < V * kLanes; j += kLine) __builtin_prefetch(c + i * ldc + j, 1);
  }
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

// Memory that is needed soon: `rows` rows of `lines` cache lines, prefetched a few lines at a time.
struct Ahead {
  const float* at;
  int64_t step, rows, lines;
  int64_t row = 0, line = 0;

  void fetch(int64_t n) {
    for (; lines > 0 && n > 0 && row < rows; n--) {
      __builtin_prefetch(at + row * step + line * kLine, 0, 2);
      if (++line == lines) row++, line = 0;
    }
  }
};

// One group of M <= kRows rows by one panel.
template <int V>
void row_group(int64_t M, int64_t K, Left a, Right b, bool accumulate, float* c, int64_t ldc) {
  if constexpr (V > 1) {
    if (b.width <= (V - 1) * kLanes) return row_group<V - 1>(M, K, a, b, accumulate, c, ldc);
  }
  if (a.row == 1) return rows_of_group<kRows, V, true>(M, K, a.data, a.row, a.step, b, accumulate, c, ldc);
  rows_of_group<kRows, V, false>(M, K, a.data, a.row, a.step, b, accumulate, c, ldc);
}

// Copies a block of K rows and `columns` columns of op(B) into panels, kPanel floats apart; zeros complete the last vector of a
// row.
void pack_right(float* packed, bool tb, int64_t K, int64_t columns, const float* b, int64_t ldb) {
  if (!tb) {
    for (int64_t j = 0; j < columns; j += kLanes, b += kLanes) {
      const int64_t n = columns - j;
      float* out = packed + j / kWidth * kPanel + j % kWidth;
      const float* in = b;
      for (int64_t k = 0; k < K; k++, in += ldb, out += kWidth) store(out, n >= kLanes ? load(in) : load_first(in, n));
    }
    return;
  }
  for (int64_t j = 0; j < columns; j += kLanes, b += kLanes * ldb) {
    const int64_t n = at_most(columns - j, kLanes);
    float* out = packed + j / kWidth * kPanel + j % kWidth;
    int64_t k = 0;
    for (; n == kLanes && k + kLanes <= K; k += kLanes, out += kLanes * kWidth)
      for_transposed(b + k, ldb, [=](int64_t i, Vec row) { store(out + i * kWidth, row); });
    for (; k < K; k++, out += kWidth) {
      for (int64_t i = 0; i < kLanes; i++) out[i] = i < n ? b[i * ldb + k] : 0;
    }
  }
}

// Copies M rows of op(A) if A is transposed: a row of A holds neighbours. Several groups are copied at a time, whole cache
// lines.
Left pack_left(float* packed, int64_t M, int64_t K, const float* a, int64_t lda) {
  constexpr int64_t kStretch = 64;
  for (int64_t i = 0; i < M; i += kStretch) {
    const int64_t n = at_most(M - i, kStretch), whole = n / kRows * kRows;
    const float* in = a + i;
    for (int64_t k = 0; k < K; k++, in += lda) {
      float* out = packed + i * K + k * kRows;
      for (int64_t r = 0; r < whole; r += kRows, out += kRows * K) __builtin_memcpy(out, in + r, sizeof(float) * kRows);
      for (int64_t r = whole; r < n; r++) out[r - whole] = in[r];
    }
  }
  return {packed, kRows * K, 1, kRows};
}

// The block of B that is packed after the one at row k and column j.
Ahead next_block(bool tb, int64_t N, int64_t K, int64_t j, int64_t k, const float* b, int64_t ldb) {
  j += kBlockColumns;
  if (j >= N) j = 0, k += kDepth;
  if (k >= K) return {};
  const int64_t columns = at_most(N - j, kBlockColumns), depth = at_most(K - k, kDepth);
  return tb ? Ahead{b + j * ldb + k, ldb, columns, depth / kLine}
            : Ahead{b + k * ldb + j, ldb, depth, columns / kLine};
}

}  // namespace

void gemm_tile(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,
               int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  if (M == 0 || N == 0) return;
  for (int64_t i = 0; K == 0 && !accumulate && i < M; i++) __builtin_memset(c + i * ldc, 0, sizeof(float) * N);
  float* const packed_right = gemm_workspace();
  float* const packed_left = packed_right + kPackedLeft;
  for (int64_t k = 0; k < K; k += kDepth) {
    const int64_t depth = at_most(K - k, kDepth);
    for (int64_t j = 0; j < N; j += kBlockColumns) {
      const int64_t columns = at_most(N - j, kBlockColumns), panels = (columns + kWidth - 1) / kWidth;
      // B is read in place only by few rows, in whole vectors
      const float* block = tb ? b + j * ldb + k : b + k * ldb + j;
      const bool pack = tb || columns % kLanes != 0 || M > 4 * kRows;
      if (pack) pack_right(packed_right, tb, depth, columns, block, ldb);
      const auto panel = [&](int64_t p) {
        const int64_t first = p * kWidth, width = at_most(columns - first, kWidth);
        return pack ? Right{packed_right + p * kPanel, kWidth, width} : Right{block + first, ldb, width};
      };
      // few rows read B as fast as it arrives: prefetching gains nothing
      Ahead next = pack ? next_block(tb, N, K, j, k, b, ldb) : Ahead{};
      const int64_t groups = (M + kRows - 1) / kRows;
      const int64_t share = 1 + next.rows * next.lines / (groups * panels);
      for (int64_t i = 0; i < M; i += kBlockRows) {
        const int64_t rows = at_most(M - i, kBlockRows);
        Left left = ta ? Left{a + k * lda + i, kRows, 1, lda} : Left{a + i * lda + k, kRows * lda, lda, 1};
        Ahead later = {};
        if (ta) later = {left.data + rows, lda, depth, at_most(M - i - rows, kBlockRows) / kLine};
        if (ta && panels > 1) left = pack_left(packed_left, rows, depth, left.data, lda);
        for (int64_t r = 0; r < rows; r += kRows, left.data += left.group) {
          if (!ta) later = {left.data + left.group, lda, at_most(M - i - r - kRows, kRows), depth / kLine};
          float* out = c + (i + r) * ldc + j;
          for (int64_t p = 0; p < panels; p++, out += kWidth) {
            next.fetch(share);
            later.fetch(1 + kRows * kDepth / kLine / panels);
            row_group<kVecs>(at_most(rows - r, kRows), depth, left, panel(p), accumulate || k > 0, out, ldc);
          }
        }
      }
    }
  }
}

}  // namespace supra::SUPRA_LEVEL
