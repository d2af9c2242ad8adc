#include "kernels/gemm.h"
#include "kernels/simd.h"
#include "kernels/tiles.h"
#include "kernels/vec.h"

// Products with factors in bf16 (products.h). Both factors are rounded and packed into tiles of 16 x 16 words, a word a pair of
// terms, which AMX and VDPBF16PS read in the same way: of A a row of a tile is a row of A, of B it is one pair of all columns. A
// block of B, kDepth x kBlockColumns, is packed once and stays in the second-level cache while all rows of A pass by, 32 at a time,
// which stay in the first. Tiles at an edge are filled up with zeros.

namespace supra::SUPRA_LEVEL {
namespace {

constexpr int64_t kSide = 2 * kTile;  // of C, rows and columns that the micro-kernel computes
constexpr int64_t kDepth = 256, kBlockColumns = 1024, kBlockWords = kDepth * kBlockColumns / 2;
static_assert(kBlockWords + 2 * kSide * kDepth / 2 <= kGemmWorkspace);

// A panel is 32 rows of A, or columns of B. The order of its tiles is [32 terms][part][first or second 16 rows].
constexpr int64_t panel_words(int64_t deep, int parts) { return 2 * kTileWords * deep * parts; }

// The products of parts, of A and of B, in their order; 0: high, 1: low. With one part there is only the last of them.
constexpr int kTerms = 3, kLeft[kTerms] = {1, 0, 0}, kRight[kTerms] = {0, 1, 0};
constexpr int first_term(int parts) { return parts == 1 ? kTerms - 1 : 0; }

#if defined(__AVX512BF16__) && !defined(SUPRA_AMX)
constexpr bool kDots = true;  // the micro-kernel is made of VDPBF16PS
#else
constexpr bool kDots = false;
#endif

// Which terms of 32 the word `pair` holds, in its lower and its upper half. VDPBF16PS adds the upper one first, and
// even and odd terms have sums of their own.
constexpr int64_t lower(int64_t pair) { return kDots ? pair / 2 * 4 + pair % 2 + 2 : 2 * pair; }
constexpr int64_t upper(int64_t pair) { return kDots ? pair / 2 * 4 + pair % 2 : 2 * pair + 1; }

// x to the nearest bf16, ties to even; denormals are zero.
inline Vec rounded(Vec x) {
  const VecInt bits = (VecInt)x, magnitude = bits & 0x7fffffff;
  const VecInt nearest = bits + 0x7fff + ((bits >> 16) & 1), sign = bits & INT32_MIN;
  const VecInt finite = (VecInt)select(magnitude < 0x00800000, (Vec)sign, (Vec)nearest);
  return (Vec)((VecInt)select(magnitude > 0x7f800000, (Vec)(bits | 0x00400000), (Vec)finite) & -65536);
}

// What is packed, before it is rounded: x, or what rounding it leaves.
template <bool low>
inline Vec part(Vec x) {
  return low ? x - rounded(x) : x;
}

// 16 words: 32 neighbours in memory.
template <bool low>
inline void pack_row(int32_t* out, const float* x) {
#if defined(__AVX512BF16__)
  __m512i words = (__m512i)_mm512_cvtne2ps_pbh((__m512)part<low>(load(x + 16)), (__m512)part<low>(load(x)));
  if constexpr (kDots) {
    const __m128i order = _mm_setr_epi8(4, 5, 0, 1, 6, 7, 2, 3, 12, 13, 8, 9, 14, 15, 10, 11);
    words = _mm512_shuffle_epi8(words, _mm512_maskz_broadcast_i32x4(0xffff, order));
  }
  _mm512_storeu_si512(out, words);
#else
  typedef int64_t Twos __attribute__((vector_size(kLanes * 4)));
  typedef int32_t Words __attribute__((vector_size(kLanes * 2)));
  for (int64_t k = 0; k < kTileDepth; k += kLanes, out += kLanes / 2) {
    const Twos two = (Twos)rounded(part<low>(load(x + k)));
    const Words words = __builtin_convertvector((two >> 16 & 0xffff) | (two >> 32 & 0xffff0000), Words);
    __builtin_memcpy(out, &words, sizeof words);
  }
#endif
}

// 16 words: two rows of 16.
template <bool low>
inline void pack_rows(int32_t* out, const float* lower_terms, const float* upper_terms) {
#if defined(__AVX512BF16__)
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)part<low>(load(upper_terms)), (__m512)part<low>(load(lower_terms)));
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4,
                                         19, 3, 18, 2, 17, 1, 16, 0);
  _mm512_storeu_si512(out, _mm512_maskz_permutexvar_epi16(0xffffffff, order, both));
#else
  for (int64_t i = 0; i < kTile; i += kLanes) {
    const VecInt first = (VecInt)rounded(part<low>(load(lower_terms + i))), second = (VecInt)rounded(part<low>(load(upper_terms + i)));
    store(reinterpret_cast<float*>(out + i), (Vec)((first >> 16 & 0xffff) | second));
  }
#endif
}

void transpose(int32_t* out, const int32_t* tile) {
  for (int64_t i = 0; i < kTile; i += kLanes) {
    for (int64_t j = 0; j < kTile; j += kLanes) {
      for_transposed(reinterpret_cast<const float*>(tile + i * kTile + j), kTile, [=](int64_t column, Vec v) {
        store(reinterpret_cast<float*>(out + (j + column) * kTile + i), v);
      });
    }
  }
}

// 16 rows (columns of B) by 32 terms of op(x), which in memory are 16 rows, or 32 if `across` is set.
template <bool low>
void pack_tile(int32_t* out, bool transposed, bool across, const float* x, int64_t ld) {
  int32_t scratch[kTileWords];
  int32_t* const to = transposed ? scratch : out;
  for (int64_t i = 0; i < kTile; i++) {
    if (across)
      pack_rows<low>(to + i * kTile, x + lower(i) * ld, x + upper(i) * ld);
    else
      pack_row<low>(to + i * kTile, x + i * ld);
  }
  if (transposed) transpose(out, scratch);
}

// A panel of `count` <= 32 rows of A (`right`: columns of B) by `depth` terms.
template <int parts>
void pack_panel(int32_t* out, bool right, bool across, int64_t count, int64_t depth, const float* x, int64_t ld) {
  const int64_t row_step = across ? 1 : ld, term_step = across ? ld : 1;
  for (int64_t k = 0; k < depth; k += kTileDepth) {
    for (int64_t half = 0; half < 2; half++, out += kTileWords) {
      const int64_t n = at_most(count - half * kTile, kTile), deep = at_most(depth - k, kTileDepth);
      const float* in = x + half * kTile * row_step + k * term_step;
      int64_t step = ld;
      float padded[kTile * kTileDepth];
      if (n < kTile || deep < kTileDepth) {
        const int64_t width = across ? kTile : kTileDepth, rows = across ? deep : n, columns = across ? n : deep;
        for (float& zero : padded) zero = 0;
        for (int64_t i = 0; i < rows; i++) {
          for (int64_t j = 0; j < columns; j++) padded[i * width + j] = in[i * ld + j];
        }
        in = padded, step = width;
      }
      const bool transposed = across != right;
      pack_tile<false>(out, transposed, across, in, step);
      if constexpr (parts == 2) pack_tile<true>(out + 2 * kTileWords, transposed, across, in, step);
    }
    out += 2 * kTileWords * (parts - 1);
  }
}

// c (32,32) (+)= a panel of A and one of B, 32 * deep terms.
#if defined(__AVX512BF16__) && !defined(SUPRA_AMX)

struct Micro {
  template <int parts>
  void multiply(int64_t deep, const int32_t* a, const int32_t* b, bool accumulate, float* c, int64_t ldc) {
    for (int64_t i = 0; i < kSide; i += kRows) {
      // the next rows of C are on their way while the sums of these are made
      const float* next = i + kRows < kSide ? c + (i + kRows) * ldc : c + kSide;
      for (int r = 0; r < kRows; r++) __builtin_prefetch(next + r * ldc, 1), __builtin_prefetch(next + r * ldc + kLanes, 1);
      rows<parts>(deep, a + i * kTile, b, accumulate, c + i * ldc, ldc);
    }
  }

 private:
  // Sums of even and of odd terms beside those of C, kRows x 2 vectors each: 24 registers of 32. The compiler keeps
  // arrays in registers only where every loop over them is unrolled.
  static constexpr int kRows = 4;
  typedef Vec Sums[kRows][2];

  template <class F>
  static void each(F f) {
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r++) f(r, 0), f(r, 1);
  }

  // the words of one pair of terms
  static void add_dots(Sums& sums, const int32_t* a, const int32_t* b) {
    const __m512i right[] = {_mm512_loadu_si512(b), _mm512_loadu_si512(b + kTileWords)};
    each([&](int r, int v) {
      sums[r][v] = (Vec)_mm512_dpbf16_ps((__m512)sums[r][v], (__m512bh)_mm512_set1_epi32(a[r * kTile]), (__m512bh)right[v]);
    });
  }

  template <int parts>
  static void rows(int64_t deep, const int32_t* a, const int32_t* b, bool accumulate, float* c, int64_t ldc) {
    Sums sums;
    each([&](int r, int v) { sums[r][v] = accumulate ? load(c + r * ldc + v * kLanes) : Vec{}; });
    for (int64_t k = 0; k < deep; k++, a += 2 * parts * kTileWords, b += 2 * parts * kTileWords) {
      for (int term = first_term(parts); term < kTerms; term++) {
        const int32_t *left = a + 2 * kLeft[term] * kTileWords, *right = b + 2 * kRight[term] * kTileWords;
        Sums even, odd;
        each([&](int r, int v) { even[r][v] = odd[r][v] = Vec{}; });
#pragma GCC unroll 8
        for (int pair = 0; pair < 16; pair += 2) {
          add_dots(even, left + pair, right + pair * kTile);
          add_dots(odd, left + pair + 1, right + (pair + 1) * kTile);
        }
        each([&](int r, int v) { sums[r][v] += even[r][v] + odd[r][v]; });
      }
    }
    each([&](int r, int v) { store(c + r * ldc + v * kLanes, sums[r][v]); });
  }
};

#else

// Two by two tiles: four loads a four products.
struct Micro {
  template <int parts>
  void multiply(int64_t deep, const int32_t* a, const int32_t* b, bool accumulate, float* c, int64_t ldc) {
    float *right = c + kTile, *below = c + kTile * ldc, *across = below + kTile;
    const int64_t row = ldc * int64_t{sizeof(float)};
    if (accumulate)
      tiles.load<0>(c, row), tiles.load<1>(right, row), tiles.load<2>(below, row), tiles.load<3>(across, row);
    else
      tiles.zero<0>(), tiles.zero<1>(), tiles.zero<2>(), tiles.zero<3>();
    for (int64_t k = 0; k < deep; k++, a += 2 * parts * kTileWords, b += 2 * parts * kTileWords) {
      for (int term = first_term(parts); term < kTerms; term++) {
        const int32_t *l = a + 2 * kLeft[term] * kTileWords, *r = b + 2 * kRight[term] * kTileWords;
        tiles.load<4>(l, kTileRowBytes), tiles.load<6>(r, kTileRowBytes);
        tiles.multiply<0, 4, 6>();
        tiles.load<7>(r + kTileWords, kTileRowBytes);
        tiles.multiply<1, 4, 7>();
        tiles.load<5>(l + kTileWords, kTileRowBytes);
        tiles.multiply<2, 5, 6>();
        tiles.multiply<3, 5, 7>();
      }
    }
    tiles.store<0>(c, row), tiles.store<1>(right, row), tiles.store<2>(below, row), tiles.store<3>(across, row);
  }

 private:
  Tiles tiles;
};

#endif

// The same at an edge, for fewer rows and columns.
template <int parts>
void multiply_edge(Micro& micro, int64_t rows, int64_t columns, int64_t deep, const int32_t* a, const int32_t* b, bool accumulate,
                   float* c, int64_t ldc) {
  float whole[kSide * kSide] = {};
  for (int64_t i = 0; accumulate && i < rows; i++) __builtin_memcpy(whole + i * kSide, c + i * ldc, sizeof(float) * columns);
  micro.template multiply<parts>(deep, a, b, accumulate, whole, kSide);
  for (int64_t i = 0; i < rows; i++) __builtin_memcpy(c + i * ldc, whole + i * kSide, sizeof(float) * columns);
}

template <int parts>
void multiply(bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b, int64_t ldb,
              bool accumulate, float* c, int64_t ldc) {
  constexpr int64_t kColumns = kBlockColumns / parts;
  auto* const right = reinterpret_cast<int32_t*>(gemm_workspace());
  int32_t* const left = right + kBlockWords;
  Micro micro;
  for (int64_t k = 0; k < K; k += kDepth) {
    const int64_t depth = at_most(K - k, kDepth), deep = (depth + kTileDepth - 1) / kTileDepth, words = panel_words(deep, parts);
    for (int64_t first = 0; first < N; first += kColumns) {
      const int64_t last = at_most(N, first + kColumns);
      for (int64_t j = first; j < last; j += kSide)
        pack_panel<parts>(right + (j - first) / kSide * words, true, !tb, at_most(last - j, kSide), depth,
                          tb ? b + j * ldb + k : b + k * ldb + j, ldb);
      for (int64_t i = 0; i < M; i += kSide) {
        const int64_t rows = at_most(M - i, kSide);
        pack_panel<parts>(left, false, ta, rows, depth, ta ? a + k * lda + i : a + i * lda + k, lda);
        for (int64_t j = first; j < last; j += kSide) {
          const int64_t columns = at_most(last - j, kSide);
          const int32_t* panel = right + (j - first) / kSide * words;
          float* out = c + i * ldc + j;
          if (rows == kSide && columns == kSide)
            micro.template multiply<parts>(deep, left, panel, accumulate || k > 0, out, ldc);
          else
            multiply_edge<parts>(micro, rows, columns, deep, left, panel, accumulate || k > 0, out, ldc);
        }
      }
    }
  }
}

}  // namespace

void bf16_gemm_tile(Products products, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,
                    int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  const auto go = products == Products::bf16x3 ? multiply<2> : multiply<1>;
  go(ta, tb, M, N, K, a, lda, b, ldb, accumulate, c, ldc);
}

void bf16_loop(double* flop, int64_t rounds) {
  constexpr int64_t kDeep = kDepth / kTileDepth, kWords = panel_words(kDeep, 1);
  auto* const panels = reinterpret_cast<int32_t*>(gemm_workspace());
  __builtin_memset(panels, 0, 2 * kWords * sizeof(int32_t));
  float c[kSide * kSide] = {};
  Micro micro;
  for (int64_t i = 0; i < rounds; i++) micro.template multiply<1>(kDeep, panels, panels + kWords, true, c, kSide);
  // c[0] is zero; the compiler does not know it, so it keeps the products
  *flop = 2.0 * kSide * kSide * kDepth * static_cast<double>(rounds) + c[0];
}

}  // namespace supra::SUPRA_LEVEL
