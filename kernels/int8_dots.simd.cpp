#include "kernels/quantized_block.h"
#include "kernels/simd.h"
#include "kernels/vec.h"

// A few rows of activations times quantised weights, by products of int8. w = scale * quant + shift, so of a block
//   sum w x = (scale of w) (scale of x) (sum of the products of quants) + (shift of w) (scale of x) (sum of x's quants)
// Scales are multiplied as vectors, 8 blocks at a time. A quant of x has two bytes: eight bits alone lose as much as four-bit
// weights do, and change the text that a model writes.

namespace supra::SUPRA_LEVEL {
namespace {

// Where the scales of a row are, and the minima behind them.
template <Dtype dtype>
inline const uint8_t* scales_at(const uint8_t* row, int64_t blocks) {
  return row + blocks * (dtype == Dtype::q8_0 ? kBlock : kBlock / 2);
}

#if defined(__AVX2__)
// Up to 8 f16 numbers; beyond n there are zeros.
inline __m256 load_scales(const uint8_t* p, int64_t n) {
  if (n == 8) return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  __m128i halves = {};
  __builtin_memcpy(&halves, p, n * 2);
  return _mm256_cvtph_ps(halves);
}

inline __m256i load32(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

// Sums of two products each of 32 quants. The first factor of maddubs is unsigned: 8-bit quants hand their signs over.
template <Dtype dtype>
inline __m256i pairs(__m256i w, __m256i x) {
  return dtype == Dtype::q8_0 ? _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w)) : _mm256_maddubs_epi16(w, x);
}

// Sums of four products.
template <Dtype dtype>
inline __m256 products(__m256i w, __m256i high, __m256i low) {
  const __m256i of_high = _mm256_madd_epi16(pairs<dtype>(w, high), _mm256_set1_epi16(256));
  return _mm256_cvtepi32_ps(_mm256_add_epi32(of_high, _mm256_madd_epi16(pairs<dtype>(w, low), _mm256_set1_epi16(1))));
}

inline float sum8(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

template <int M, Dtype dtype>
inline void int8_dot(int64_t blocks, const Int8Rows& x, const uint8_t* row, bool accumulate, float* y, int64_t ldy) {
  // one chain of additions would take longer than the loads
  constexpr int kSums = M == 1 ? 4 : 2;
  const uint8_t* scale_at = scales_at<dtype>(row, blocks);
  const __m256i low = _mm256_set1_epi8(15);
  __m256 sums[M][kSums] = {};
  const auto group = [&](int64_t b, int n) __attribute__((always_inline)) {
    const __m256 scale = load_scales(scale_at + 2 * b, n);
    float factors[M][8];
    for (int m = 0; m < M; m++) {
      _mm256_storeu_ps(factors[m], scale * _mm256_loadu_ps(x.scales + m * x.stride + b));
      if constexpr (dtype == Dtype::q8_0) continue;
      const __m256 shift = dtype == Dtype::q4_1 ? load_scales(scale_at + 2 * (blocks + b), n) : scale * -8.0f;
      sums[m][0] = _mm256_fmadd_ps(shift, _mm256_loadu_ps(x.sums + m * x.stride + b), sums[m][0]);
    }
    const auto add = [&](int j, __m256i w) __attribute__((always_inline)) {
      for (int m = 0; m < M; m++) {
        const int64_t at = (m * x.stride + b + j) * kBlock;
        __m256& sum = sums[m][j % kSums];
        sum = _mm256_fmadd_ps(products<dtype>(w, load32(x.high + at), load32(x.low + at)),
                              _mm256_broadcast_ss(&factors[m][j]), sum);
      }
    };
    if constexpr (dtype == Dtype::q8_0) {
#pragma GCC unroll 8
      for (int j = 0; j < n; j++) add(j, load32(row + (b + j) * kBlock));
    } else {
#pragma GCC unroll 4
      for (int j = 0; j + 1 < n; j += 2) {
        const __m256i w = load32(row + (b + j) * kBlock / 2);
        add(j, _mm256_and_si256(w, low));
        add(j + 1, _mm256_and_si256(_mm256_srli_epi16(w, 4), low));
      }
      if (n % 2 == 1) {
        const uint8_t* alone = row + (b + n - 1) * kBlock / 2;
        const __m128i w = _mm_loadu_si128(reinterpret_cast<const __m128i*>(alone));
        add(n - 1, _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(w, 4), w), low));
      }
    }
  };
  int64_t b = 0;
  for (; b + 8 <= blocks; b += 8) group(b, 8);
  if (b < blocks) group(b, static_cast<int>(blocks - b));
  for (int m = 0; m < M; m++) {
    __m256 sum = sums[m][0] + sums[m][1];
    if constexpr (kSums == 4) sum += sums[m][2] + sums[m][3];
    y[m * ldy] = sum8(sum) + (accumulate ? y[m * ldy] : 0);
  }
}
#else
template <int M, Dtype dtype>
inline void int8_dot(int64_t blocks, const Int8Rows& x, const uint8_t* row, bool accumulate, float* y, int64_t ldy) {
  float sums[M] = {};
  for (int64_t b = 0; b < blocks; b++) {
    int8_t w[kBlock];
    unpack(w, row, dtype, b, blocks);
    const Code code = code_of(row, dtype, b, blocks);
    for (int m = 0; m < M; m++) {
      const int64_t at = m * x.stride + b;
      int32_t dot = 0;
      for (int i = 0; i < kBlock; i++) dot += w[i] * (256 * x.high[at * kBlock + i] + x.low[at * kBlock + i]);
      sums[m] += code.scale * x.scales[at] * static_cast<float>(dot) + code.shift * x.sums[at];
    }
  }
  for (int m = 0; m < M; m++) y[m * ldy] = sums[m] + (accumulate ? y[m * ldy] : 0);
}
#endif

template <int M, Dtype dtype>
void int8_dots(int64_t N, int64_t blocks, const Int8Rows& x, const uint8_t* row, int64_t bytes,
               bool accumulate, float* y, int64_t ldy) {
  for (int64_t j = 0; j < N; j++, row += bytes) int8_dot<M, dtype>(blocks, x, row, accumulate, y + j, ldy);
}

#if defined(__AVX512F__)
// VNNI needs half the instructions; without it 4-bit weights are read more slowly than memory delivers them.
bool takes_vnni(int64_t blocks) { return blocks % 8 == 0 && __builtin_cpu_supports("avx512vnni"); }

// The same for whole groups of 8 blocks. A vector holds two blocks: neighbours, or those in the same halves of two pairs'
// bytes. 8-bit quants are made unsigned by adding 128.
template <int M, Dtype dtype>
__attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))) void vnni_dots(
    int64_t N, int64_t blocks, const Int8Rows& x, const uint8_t* row, int64_t bytes, bool accumulate, float* y, int64_t ldy) {
  constexpr bool kBytes = dtype == Dtype::q8_0;
  constexpr int kNext = kBytes ? 1 : 2, kAhead = 4096;
  const __m512i low = _mm512_set1_epi8(15), half = _mm512_set1_epi8(-128);
  const __m512i first = _mm512_maskz_inserti64x4(0xff, _mm512_setzero_si512(), _mm256_set1_epi32(kNext), 1);
  for (int64_t j = 0; j < N; j++, row += bytes) {
    const uint8_t* scale_at = scales_at<dtype>(row, blocks);
    __m512 sums[M][2] = {};
    __m256 shifts[M] = {};
    for (int64_t b = 0; b < blocks; b += 8) {
      const __m256 scale = load_scales(scale_at + 2 * b, 8);
      const __m256 shift = dtype == Dtype::q4_1 ? load_scales(scale_at + 2 * (blocks + b), 8)
                                                : scale * (kBytes ? -128.0f : -8.0f);
      __m512 factors[M];
      for (int m = 0; m < M; m++) {
        const int64_t at = m * x.stride + b;
        factors[m] = _mm512_castps256_ps512(scale * _mm256_loadu_ps(x.scales + at));
        shifts[m] = _mm256_fmadd_ps(shift, _mm256_loadu_ps(x.sums + at), shifts[m]);
      }
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) {
        const int block = kBytes ? 2 * v : v / 2 * 4 + v % 2;
        const uint8_t* at_w = row + (kBytes ? (b + block) * kBlock : (b + block - v % 2) * kBlock / 2);
        // a row of 4-bit weights is so short that the hardware does not prefetch the next ones (Zen 4: 1.15 times the speed)
        if (!kBytes && v % 2 == 0) __builtin_prefetch(at_w + kAhead);
        __m512i w = _mm512_loadu_si512(at_w);
        if constexpr (kBytes) {
          w = _mm512_xor_si512(w, half);
        } else {
          w = _mm512_and_si512(v % 2 ? _mm512_srli_epi16(w, 4) : w, low);
        }
        const __m512i index = _mm512_add_epi32(first, _mm512_set1_epi32(block));
        for (int m = 0; m < M; m++) {
          const int64_t at = (m * x.stride + b + 2 * v) * kBlock;
          const __m512i of_high = _mm512_dpbusd_epi32(_mm512_setzero_si512(), w, _mm512_loadu_si512(x.high + at));
          const __m512i dot = _mm512_dpbusd_epi32((__m512i)((VecInt)of_high << 8), w, _mm512_loadu_si512(x.low + at));
          sums[m][v % 2] =
              _mm512_fmadd_ps((__m512) __builtin_convertvector((VecInt)dot, Vec),
                              _mm512_maskz_permutexvar_ps(0xffff, index, factors[m]), sums[m][v % 2]);
        }
      }
    }
    for (int m = 0; m < M; m++) {
      const __m512 sum = sums[m][0] + sums[m][1];
      const __m256 upper = _mm512_maskz_extractf32x8_ps(0xff, sum, 1);
      const float total = sum8(_mm512_maskz_extractf32x8_ps(0xff, sum, 0) + upper + shifts[m]);
      y[m * ldy + j] = total + (accumulate ? y[m * ldy + j] : 0);
    }
  }
}
#endif

template <Dtype dtype>
void int8_dots(int64_t M, int64_t N, int64_t K, const Int8Rows& a, const uint8_t* row, int64_t bytes,
               bool accumulate, float* c, int64_t ldc) {
  const int64_t blocks = K / kBlock;
  const auto run = [&](auto one, auto two, auto three, auto four) {
    (M == 1 ? one : M == 2 ? two : M == 3 ? three : four)(N, blocks, a, row, bytes, accumulate, c, ldc);
  };
#if defined(__AVX512F__)
  if (takes_vnni(blocks)) return run(vnni_dots<1, dtype>, vnni_dots<2, dtype>, vnni_dots<3, dtype>, vnni_dots<4, dtype>);
#endif
  run(int8_dots<1, dtype>, int8_dots<2, dtype>, int8_dots<3, dtype>, int8_dots<4, dtype>);
}

// The place of block b of the activations: with four-bit weights it is beside the next but one.
int64_t place_of(int64_t b, [[maybe_unused]] int64_t blocks, [[maybe_unused]] Dtype dtype) {
#if defined(__AVX512F__)
  if (dtype != Dtype::q8_0 && takes_vnni(blocks)) return (b & ~3) | (b & 1) << 1 | (b >> 1 & 1);
#endif
  return b;
}

}  // namespace

void int8_gemm_dots(int64_t M, int64_t N, int64_t K, const Int8Rows& a, const void* b, Dtype dtype,
                    int64_t row_bytes, bool accumulate, float* c, int64_t ldc) {
  const uint8_t* row = static_cast<const uint8_t*>(b);
  if (dtype == Dtype::q8_0) int8_dots<Dtype::q8_0>(M, N, K, a, row, row_bytes, accumulate, c, ldc);
  if (dtype == Dtype::q4_0) int8_dots<Dtype::q4_0>(M, N, K, a, row, row_bytes, accumulate, c, ldc);
  if (dtype == Dtype::q4_1) int8_dots<Dtype::q4_1>(M, N, K, a, row, row_bytes, accumulate, c, ldc);
}

void to_int8(const Int8Rows& row, const float* x, int64_t C, Dtype dtype) {
  // 1.5 * 2^23: adding it rounds to the nearest integer, which is then in the low bits
  const Vec shifter = broadcast(12582912.0f);
  for (int64_t b = 0; b < C / kBlock; b++, x += kBlock) {
    const int64_t at = place_of(b, C / kBlock, dtype) * kBlock;
    Vec largest = {}, poison = {};
    for (int k = 0; k < kBlock; k += kLanes) {
      largest = max(abs(load(x + k)), largest);
      poison += load(x + k) * 0.0f;
    }
    // 32512 = 127 * 256, and what the low byte adds. NaN or infinity anywhere makes the whole block NaN
    const float scale = max(largest) / 32512 + sum(poison);
    const Vec inverse = broadcast(scale > 0 ? 1 / scale : 0);
    int32_t rounded[kBlock], total = 0;
    for (int k = 0; k < kBlock; k += kLanes) {
      const VecInt q = (VecInt)fma(load(x + k), inverse, shifter) - (VecInt)shifter;
      __builtin_memcpy(rounded + k, &q, sizeof q);
    }
    for (int k = 0; k < kBlock; k++) {
      // low is -127 to 127: -128 has no opposite
      const int32_t q = rounded[k] - ((rounded[k] & 255) == 128), high = (q + 128) >> 8;
      row.high[at + k] = static_cast<int8_t>(high);
      row.low[at + k] = static_cast<int8_t>(q - high * 256);
      total += q;
    }
    row.scales[b] = scale;
    row.sums[b] = scale * static_cast<float>(total);
  }
}

}  // namespace supra::SUPRA_LEVEL
