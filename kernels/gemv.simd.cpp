#include "kernels/gemv.h"

#include "kernels/simd.h"
#include "kernels/vec.h"
#include "tensor/quantized.h"

// A few rows of activations times a matrix that is read once, row by row, each in one stream: memory is the
// bound, and the hardware fetches one stream ahead better than several (34 GB/s a core against 21 with eight,
// on a Zen 4).

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
  // the exponent is rebiased; below the smallest normal half 2^-24 steps are read off as an integer
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

// c (M) (+)= a (M,K) b (K)
template <int M, class W>
inline void dot(int64_t K, const float* a, int64_t lda, const W* b, bool accumulate, float* c, int64_t ldc) {
  constexpr int kSums = 2;
  Vec sums[M][kSums] = {};
  int64_t k = 0;
  for (; k + kSums * kLanes <= K; k += kSums * kLanes) {
    for (int s = 0; s < kSums; s++) {
      const Vec right = load(b + k + s * kLanes);
      for (int i = 0; i < M; i++) sums[i][s] = fma(load(a + i * lda + k + s * kLanes), right, sums[i][s]);
    }
  }
  for (; k < K; k += kLanes) {
    const int64_t n = K - k < kLanes ? K - k : kLanes;
    const Vec right = load_first(b + k, n);
    for (int i = 0; i < M; i++) sums[i][0] = fma(load_first(a + i * lda + k, n), right, sums[i][0]);
  }
  for (int i = 0; i < M; i++) c[i * ldc] = sum(sums[i][0] + sums[i][1]) + (accumulate ? c[i * ldc] : 0);
}

template <class W>
void dots(int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, int64_t ldb,
          bool accumulate, float* c, int64_t ldc) {
  const W* row = static_cast<const W*>(b);
  for (int64_t j = 0; j < N; j++, row += ldb) {
    if (M == 1) dot<1>(K, a, lda, row, accumulate, c + j, ldc);
    if (M == 2) dot<2>(K, a, lda, row, accumulate, c + j, ldc);
    if (M == 3) dot<3>(K, a, lda, row, accumulate, c + j, ldc);
    if (M == 4) dot<4>(K, a, lda, row, accumulate, c + j, ldc);
  }
}

// The 32 quants of block b of a row; of four-bit ones as they stand, 0 to 15.
inline void unpack(int8_t* out, const uint8_t* quants, Dtype dtype, int64_t b, int64_t blocks) {
  if (dtype == Dtype::q8_0) {
    __builtin_memcpy(out, quants + b * kBlock, kBlock);
  } else if (b + 1 == blocks && b % 2 == 0) {
    for (int i = 0; i < 16; i++) out[i] = quants[b * 16 + i] & 15, out[i + 16] = quants[b * 16 + i] >> 4;
  } else {
    const uint8_t* pair = quants + b / 2 * kBlock;
    const int shift = b % 2 * 4;
    for (int i = 0; i < kBlock; i++) out[i] = pair[i] >> shift & 15;
  }
}

// x = scale * quant + shift
struct Code {
  float scale, shift;
};
inline Code code_of(const uint8_t* row, Dtype dtype, int64_t b, int64_t blocks) {
  const uint8_t* at = row + blocks * (dtype == Dtype::q8_0 ? kBlock : kBlock / 2) + 2 * b;
  uint16_t halves[2];
  __builtin_memcpy(halves, at, 2);
  const float scale = f16_to_f32(halves[0]);
  if (dtype == Dtype::q8_0) return {scale, 0};
  if (dtype == Dtype::q4_0) return {scale, -8 * scale};
  __builtin_memcpy(halves + 1, at + 2 * blocks, 2);
  return {scale, f16_to_f32(halves[1])};
}

// c (M) = a row of w times M rows of x; of a block the sum is
//   (scale of w) (scale of x) (sum of the products of quants) + (shift of w) (scale of x) (sum of x's quants)
#if defined(__AVX2__)
// Up to 8 f16 numbers; beyond n there are zeros.
inline __m256 scales(const uint8_t* p, int64_t n) {
  __m128i halves = {};
  if (n == 8)
    halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  else
    __builtin_memcpy(&halves, p, n * 2);
  return _mm256_cvtph_ps(halves);
}

inline __m256i load32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

// Sums of four products each of 32 quants. The first factor of maddubs is unsigned: 8-bit quants hand their
// signs over.
template <Dtype dtype>
inline __m256 products(__m256i w, __m256i x) {
  const __m256i pairs = dtype == Dtype::q8_0
                            ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w))
                            : _mm256_maddubs_epi16(w, x);
  return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

inline float sum8(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

template <int M, Dtype dtype>
inline void int8_dot(int64_t C, const Int8Rows& x, const uint8_t* row, bool accumulate, float* y,
                     int64_t ldy) {
  constexpr int kSums = M == 1 ? 4 : 2;
  const int64_t blocks = C / kBlock;
  const uint8_t* scale_at = row + (dtype == Dtype::q8_0 ? C : C / 2);
  const uint8_t* minimum_at = scale_at + 2 * blocks;
  const __m256i low = _mm256_set1_epi8(15);
  __m256 sums[M][kSums] = {};
  for (int64_t b = 0; b < blocks; b += 8) {
    const int64_t n = blocks - b < 8 ? blocks - b : 8;
    const __m256 scale = scales(scale_at + 2 * b, n);
    float factors[M][8];
    for (int m = 0; m < M; m++) {
      _mm256_storeu_ps(factors[m], scale * _mm256_loadu_ps(x.scales + m * x.stride + b));
      if constexpr (dtype == Dtype::q8_0) continue;
      const __m256 shift = dtype == Dtype::q4_1 ? scales(minimum_at + 2 * b, n) : scale * -8.0f;
      sums[m][0] = _mm256_fmadd_ps(shift, _mm256_loadu_ps(x.sums + m * x.stride + b), sums[m][0]);
    }
    const auto add = [&](int j, __m256i w) {
      for (int m = 0; m < M; m++) {
        const __m256i of_x = load32(x.quants + (m * x.stride + b + j) * kBlock);
        __m256& sum = sums[m][j % kSums];
        sum = _mm256_fmadd_ps(products<dtype>(w, of_x), _mm256_broadcast_ss(&factors[m][j]), sum);
      }
    };
    if constexpr (dtype == Dtype::q8_0) {
#pragma GCC unroll 8
      for (int j = 0; j < 8; j++) {
        if (j < n) add(j, load32(row + (b + j) * kBlock));
      }
    } else {
#pragma GCC unroll 4
      for (int j = 0; j < 8; j += 2) {
        if (j + 1 < n) {
          const __m256i w = load32(row + (b + j) * kBlock / 2);
          add(j, _mm256_and_si256(w, low));
          add(j + 1, _mm256_and_si256(_mm256_srli_epi16(w, 4), low));
        } else if (j < n) {
          const __m128i w = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + (b + j) * kBlock / 2));
          add(j, _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(w, 4), w), low));
        }
      }
    }
  }
  for (int m = 0; m < M; m++) {
    __m256 sum = sums[m][0] + sums[m][1];
    if constexpr (kSums == 4) sum += sums[m][2] + sums[m][3];
    y[m * ldy] = sum8(sum) + (accumulate ? y[m * ldy] : 0);
  }
}
#else
template <int M, Dtype dtype>
inline void int8_dot(int64_t C, const Int8Rows& x, const uint8_t* row, bool accumulate, float* y,
                     int64_t ldy) {
  const int64_t blocks = C / kBlock;
  float sums[M] = {};
  for (int64_t b = 0; b < blocks; b++) {
    int8_t w[kBlock];
    unpack(w, row, dtype, b, blocks);
    const Code code = code_of(row, dtype, b, blocks);
    for (int m = 0; m < M; m++) {
      const int8_t* of_x = x.quants + (m * x.stride + b) * kBlock;
      int32_t dot = 0;
      for (int i = 0; i < kBlock; i++) dot += w[i] * of_x[i];
      const int64_t at = m * x.stride + b;
      sums[m] += code.scale * x.scales[at] * static_cast<float>(dot) + code.shift * x.sums[at];
    }
  }
  for (int m = 0; m < M; m++) y[m * ldy] = sums[m] + (accumulate ? y[m * ldy] : 0);
}
#endif

template <Dtype dtype>
void int8_dots(int64_t M, int64_t N, int64_t C, const Int8Rows& x, const uint8_t* row, int64_t bytes,
               bool accumulate, float* y, int64_t ldy) {
  for (int64_t j = 0; j < N; j++, row += bytes) {
    if (M == 1) int8_dot<1, dtype>(C, x, row, accumulate, y + j, ldy);
    if (M == 2) int8_dot<2, dtype>(C, x, row, accumulate, y + j, ldy);
    if (M == 3) int8_dot<3, dtype>(C, x, row, accumulate, y + j, ldy);
    if (M == 4) int8_dot<4, dtype>(C, x, row, accumulate, y + j, ldy);
  }
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

void gemm_dots(int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b, int64_t ldb,
               bool accumulate, float* c, int64_t ldc) {
  dots<float>(M, N, K, a, lda, b, ldb, accumulate, c, ldc);
}

void half_gemm_dots(int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const void* b, Dtype dtype,
                    int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  if (dtype == Dtype::f16) dots<F16>(M, N, K, a, lda, b, ldb, accumulate, c, ldc);
  if (dtype == Dtype::bf16) dots<Bf16>(M, N, K, a, lda, b, ldb, accumulate, c, ldc);
}

void int8_gemm_dots(int64_t M, int64_t N, int64_t K, const Int8Rows& a, const void* b, Dtype dtype,
                    int64_t row_bytes, bool accumulate, float* c, int64_t ldc) {
  const uint8_t* row = static_cast<const uint8_t*>(b);
  if (dtype == Dtype::q8_0) int8_dots<Dtype::q8_0>(M, N, K, a, row, row_bytes, accumulate, c, ldc);
  if (dtype == Dtype::q4_0) int8_dots<Dtype::q4_0>(M, N, K, a, row, row_bytes, accumulate, c, ldc);
  if (dtype == Dtype::q4_1) int8_dots<Dtype::q4_1>(M, N, K, a, row, row_bytes, accumulate, c, ldc);
}

void to_int8(int8_t* quants, float* scales, float* sums, const float* x, int64_t C) {
  // 1.5 * 2^23: adding it rounds to the nearest integer, which then stands in the low bits
  const Vec shifter = broadcast(12582912.0f);
  for (int64_t i = 0; i < C; i += kBlock, x += kBlock, quants += kBlock) {
    Vec largest = {}, poison = {};
    for (int k = 0; k < kBlock; k += kLanes) {
      largest = max(abs(load(x + k)), largest);
      poison += load(x + k) * 0.0f;
    }
    // NaN or infinity anywhere makes the whole block NaN
    const float scale = max(largest) / 127 + sum(poison);
    const Vec inverse = broadcast(scale > 0 ? 1 / scale : 0);
    VecInt total = {};
    int32_t rounded[kBlock];
    for (int k = 0; k < kBlock; k += kLanes) {
      const VecInt q = (VecInt)fma(load(x + k), inverse, shifter) - (VecInt)shifter;
      total += q;
      __builtin_memcpy(rounded + k, &q, sizeof q);
    }
    for (int k = 0; k < kBlock; k++) quants[k] = static_cast<int8_t>(rounded[k]);
    *scales++ = scale;
    *sums++ = scale * sum(__builtin_convertvector(total, Vec));
  }
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
