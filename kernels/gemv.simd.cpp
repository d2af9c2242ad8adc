#include "kernels/quantized_block.h"
#include "kernels/simd.h"
#include "kernels/vec.h"

// A few rows of activations times a matrix that is read once, row by row, each in one stream: memory is the bound, and the
// hardware fetches one stream ahead better than several (34 GB/s a core against 21 with eight, on a Zen 4).

namespace supra::SUPRA_LEVEL {
namespace {

struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));
typedef uint16_t HalvesUnaligned __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));

inline VecInt widen(const void* p) {
  return __builtin_convertvector((Halves) * static_cast<const HalvesUnaligned*>(p), VecInt);
}
inline Vec load(const Bf16* p) { return (Vec)(widen(p) << 16); }
inline Vec load(const F16* p) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
#elif defined(__F16C__)
  return (Vec)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#else
  // the exponent is rebiased; below the smallest normal half the bits are an integer, in steps of 2^-24
  const VecInt half = widen(p), sign = (half & 0x8000) << 16, magnitude = half & 0x7fff;
  const Vec normal = (Vec)((magnitude << 13) + (112 << 23));
  const Vec small = __builtin_convertvector(magnitude, Vec) * 5.9604644775390625e-8f;
  const Vec special = (Vec)((magnitude << 13) | 0x7f800000);
  return (Vec)((VecInt)select(magnitude < 0x400, small, select(magnitude < 0x7c00, normal, special)) | sign);
#endif
}
template <class W>
inline Vec load_first(const W* p, int64_t n) {
  W whole[kLanes] = {};
  __builtin_memcpy(whole, p, n * sizeof(W));
  return load(whole);
}

// c (M,J) (+)= a (M,K) b(J,K)^T. Every element has its own sums, so its neighbours change no bit of it. Every loop over an
// array of sums is unrolled, or g++ -O2 keeps them in memory: three times as slow.
template <int M, int J, class W>
inline void dot(int64_t K, const float* a, int64_t lda, const W* b, int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  constexpr int kSums = 2;
  Vec sums[M][J][kSums] = {};
  int64_t k = 0;
  for (; k + kSums * kLanes <= K; k += kSums * kLanes) {
#pragma GCC unroll 8
    for (int s = 0; s < kSums; s++) {
#pragma GCC unroll 8
      for (int j = 0; j < J; j++) {
        const Vec right = load(b + j * ldb + k + s * kLanes);
#pragma GCC unroll 8
        for (int i = 0; i < M; i++) sums[i][j][s] = fma(load(a + i * lda + k + s * kLanes), right, sums[i][j][s]);
      }
    }
  }
  for (; k < K; k += kLanes) {
    const int64_t n = K - k < kLanes ? K - k : kLanes;
#pragma GCC unroll 8
    for (int j = 0; j < J; j++) {
      const Vec right = load_first(b + j * ldb + k, n);
#pragma GCC unroll 8
      for (int i = 0; i < M; i++) sums[i][j][0] = fma(load_first(a + i * lda + k, n), right, sums[i][j][0]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; i++) {
    float* out = c + i * ldc;
    float total[J];
    if constexpr (J == 4)
      sum_each({sums[i][0][0] + sums[i][0][1], sums[i][1][0] + sums[i][1][1], sums[i][2][0] + sums[i][2][1],
                sums[i][3][0] + sums[i][3][1]}, total);
    else
      total[0] = sum(sums[i][0][0] + sums[i][0][1]);
#pragma GCC unroll 8
    for (int j = 0; j < J; j++) out[j] = total[j] + (accumulate ? out[j] : 0);
  }
}

// Rows of b from j on, J at once while there are that many; returns the first row that is left.
template <int J, class W>
inline int64_t dots_by(int64_t j, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, int64_t ldb, bool accumulate,
                       float* c, int64_t ldc) {
  const W* row = static_cast<const W*>(b) + j * ldb;
  for (; j + J <= N; j += J, row += J * ldb) {
    if (M == 1) dot<1, J>(K, a, lda, row, ldb, accumulate, c + j, ldc);
    if (M == 2) dot<2, J>(K, a, lda, row, ldb, accumulate, c + j, ldc);
    if (M == 3) dot<3, J>(K, a, lda, row, ldb, accumulate, c + j, ldc);
    if (M == 4) dot<4, J>(K, a, lda, row, ldb, accumulate, c + j, ldc);
  }
  return j;
}

template <class W, bool holds_keys>
void dots(int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, int64_t ldb,
          bool accumulate, float* c, int64_t ldc) {
  int64_t j = 0;
  // short rows, such as the keys of a head, are no streams: four at once hide the latency of a sum, if registers hold the sums
  constexpr int64_t kShort = 256;
  if constexpr (holds_keys) {
    if (K <= kShort && (M == 1 || kLanes == 16)) j = dots_by<4, W>(j, M, N, K, a, lda, b, ldb, accumulate, c, ldc);
  }
  dots_by<1, W>(j, M, N, K, a, lda, b, ldb, accumulate, c, ldc);
}

// C vectors of columns of c (M,N) = a (M,K) b(K,N), a row of b at a time; of the last vector `left` columns. To keep the
// program small there is no code for M = 2 and 3: they compute their last row again.
template <int rows, int C>
inline void columns_of_sum(int64_t M, int64_t K, const float* a, int64_t lda, const F16* b, int64_t ldb, float* c, int64_t ldc,
                           int64_t left = kLanes) {
  Vec sums[rows][C] = {};
  for (int64_t k = 0; k < K; k++, b += ldb) {
#pragma GCC unroll 8
    for (int j = 0; j < C; j++) {
      const Vec right = left < kLanes ? load_first(b + j * kLanes, left) : load(b + j * kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) sums[i][j] = fma(broadcast(a[at_most(i, M - 1) * lda + k]), right, sums[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 8
    for (int j = 0; j < C; j++) store_first(c + at_most(i, M - 1) * ldc + j * kLanes, sums[i][j], left);
  }
}

template <int rows>
void sum_of_rows(int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const F16* b, int64_t ldb, float* c, int64_t ldc) {
  // as many sums as registers hold
  constexpr int C = kLanes == 16 ? 4 : 2;
  int64_t n = 0;
  for (; n + C * kLanes <= N; n += C * kLanes) columns_of_sum<rows, C>(M, K, a, lda, b + n, ldb, c + n, ldc);
  for (; n < N; n += kLanes) columns_of_sum<rows, 1>(M, K, a, lda, b + n, ldb, c + n, ldc, at_most(N - n, kLanes));
}

template <class W>
void widen_row(float* x, const void* row, int64_t n) {
  const W* w = static_cast<const W*>(row);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(x + i, load(w + i));
  if (i < n) store_first(x + i, load_first(w + i, n - i), n - i);
}

template <Dtype dtype>
void dequantize_row(float* x, const uint8_t* row, int64_t n) {
  for (int64_t b = 0; b < n / kBlock; b++, x += kBlock) {
    int8_t quants[kBlock];
    unpack(quants, row, dtype, b, n / kBlock);
    const Code code = code_of(row, dtype, b, n / kBlock);
    for (int i = 0; i < kBlock; i++) x[i] = static_cast<float>(quants[i]) * code.scale + code.shift;
  }
}

}  // namespace

void gemm_dots(int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, Dtype dtype, int64_t ldb,
               bool accumulate, float* c, int64_t ldc) {
  if (dtype == Dtype::f32) dots<float, true>(M, N, K, a, lda, b, ldb, accumulate, c, ldc);
  if (dtype == Dtype::f16) dots<F16, true>(M, N, K, a, lda, b, ldb, accumulate, c, ldc);
  if (dtype == Dtype::bf16) dots<Bf16, false>(M, N, K, a, lda, b, ldb, accumulate, c, ldc);
}

void f16_sum_of_rows(int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, int64_t ldb, float* c, int64_t ldc) {
  const F16* rows = static_cast<const F16*>(b);
  if (M == 1) sum_of_rows<1>(M, N, K, a, lda, rows, ldb, c, ldc);
  else sum_of_rows<4>(M, N, K, a, lda, rows, ldb, c, ldc);
}

void to_f32(float* x, const void* row, Dtype dtype, int64_t n) {
  const uint8_t* bytes = static_cast<const uint8_t*>(row);
  if (dtype == Dtype::f16) widen_row<F16>(x, row, n);
  if (dtype == Dtype::bf16) widen_row<Bf16>(x, row, n);
  if (dtype == Dtype::q8_0) dequantize_row<Dtype::q8_0>(x, bytes, n);
  if (dtype == Dtype::q4_0) dequantize_row<Dtype::q4_0>(x, bytes, n);
  if (dtype == Dtype::q4_1) dequantize_row<Dtype::q4_1>(x, bytes, n);
}

}  // namespace supra::SUPRA_LEVEL
