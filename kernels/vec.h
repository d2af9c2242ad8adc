#pragma once

// A vector of floats as wide as the level, for .simd.cpp files. These are compiled once for each level, into the namespace
// SUPRA_LEVEL. They include no header with inline code of the standard library: the linker keeps only one copy of such code for
// all levels, and this processor might be unable to run it.
//
// Vec is a GCC/Clang vector type: + - * / and comparisons work on it element by element.

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#ifndef SUPRA_LEVEL
#error "compile foo.simd.cpp with -DSUPRA_LEVEL=baseline, avx2 or avx512 (the Makefile does)"
#endif

namespace supra::SUPRA_LEVEL {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * 4)));
typedef int32_t VecInt __attribute__((vector_size(kLanes * 4)));
typedef float VecUnaligned __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

inline int64_t at_most(int64_t n, int64_t limit) { return n < limit ? n : limit; }

inline Vec load(const float* p) { return *reinterpret_cast<const VecUnaligned*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<VecUnaligned*>(p) = v; }
// A streaming store, which bypasses the caches, to an address that is a multiple of the vector's size. Other threads see
// it after the locked instruction that ends each part of a parallel_for.
inline void stream(float* p, Vec v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__)
  _mm256_stream_ps(p, (__m256)v);
#elif defined(__SSE2__)
  _mm_stream_ps(p, (__m128)v);
#else
  store(p, v);
#endif
}
inline Vec broadcast(float x) { return x - Vec{}; }

// The first n <= kLanes elements; the others are neither read nor written, and load as zero.
#if defined(__AVX512F__)
inline Vec load_first(const float* p, int64_t n) {
  return (Vec)_mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
inline void store_first(float* p, Vec v, int64_t n) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), (__m512)v);
}
#elif defined(__AVX2__)
inline __m256i first_lanes(int64_t n) {
  static constexpr int32_t kOnes[2 * kLanes] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kOnes + kLanes - n));
}
inline Vec load_first(const float* p, int64_t n) { return (Vec)_mm256_maskload_ps(p, first_lanes(n)); }
inline void store_first(float* p, Vec v, int64_t n) { _mm256_maskstore_ps(p, first_lanes(n), (__m256)v); }
#else
inline Vec load_first(const float* p, int64_t n) {
  Vec v = {};
  for (int64_t i = 0; i < n; i++) v[i] = p[i];
  return v;
}
inline void store_first(float* p, Vec v, int64_t n) {
  for (int64_t i = 0; i < n; i++) p[i] = v[i];
}
#endif

// a * b + c, with one rounding if the level has fma
inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline Vec select(VecInt condition, Vec yes, Vec no) {
  return (Vec)((condition & (VecInt)yes) | (~condition & (VecInt)no));
}
// NaN in `a` stays NaN
inline Vec max(Vec a, Vec b) { return select(a < b, b, a); }
inline Vec min(Vec a, Vec b) { return select(a > b, b, a); }
inline Vec abs(Vec a) { return (Vec)((VecInt)a & 0x7fffffff); }
// magnitude >= 0, with the sign of x
inline Vec with_sign_of(Vec x, Vec magnitude) { return (Vec)((VecInt)magnitude | ((VecInt)x & INT32_MIN)); }

inline Vec sqrt(Vec a) {
#if defined(__AVX512F__)
  return (Vec)_mm512_maskz_sqrt_ps(0xffff, (__m512)a);
#elif defined(__AVX2__)
  return (Vec)_mm256_sqrt_ps((__m256)a);
#elif defined(__SSE2__)
  return (Vec)_mm_sqrt_ps((__m128)a);
#else
  Vec r;
  for (int i = 0; i < kLanes; i++) r[i] = __builtin_sqrtf(a[i]);
  return r;
#endif
}

// (Unmasked, some AVX-512 intrinsics of g++ 12 warn of uninitialised values: GCC bug 105593.)
//
// The columns of a square of kLanes rows, ld floats apart: calls f(i, column i) in order. Pieces of four floats are combined as
// they are loaded, so only two rounds of exchanges within the pieces remain.
template <class F>
inline void for_transposed(const float* p, int64_t ld, F f) {
  for (int64_t i = 0; i < kLanes; i += 4, p += 4) {
    Vec row[4];
#if defined(__AVX512F__)
    for (int r = 0; r < 4; r++) {
      const auto piece = [=](int64_t at) { return _mm_loadu_ps(p + at * ld); };
      __m512 v = _mm512_maskz_broadcast_f32x4(0xffff, piece(r));
      v = _mm512_mask_broadcast_f32x4(v, 0x00f0, piece(r + 4));
      v = _mm512_mask_broadcast_f32x4(v, 0x0f00, piece(r + 8));
      row[r] = (Vec)_mm512_mask_broadcast_f32x4(v, 0xf000, piece(r + 12));
    }
    const auto columns = [&](int64_t at, Vec a, Vec b) {
      f(at, (Vec)_mm512_maskz_unpacklo_pd(0xff, (__m512d)a, (__m512d)b));
      f(at + 1, (Vec)_mm512_maskz_unpackhi_pd(0xff, (__m512d)a, (__m512d)b));
    };
    columns(i, (Vec)_mm512_maskz_unpacklo_ps(0xffff, (__m512)row[0], (__m512)row[1]),
            (Vec)_mm512_maskz_unpacklo_ps(0xffff, (__m512)row[2], (__m512)row[3]));
    columns(i + 2, (Vec)_mm512_maskz_unpackhi_ps(0xffff, (__m512)row[0], (__m512)row[1]),
            (Vec)_mm512_maskz_unpackhi_ps(0xffff, (__m512)row[2], (__m512)row[3]));
#elif defined(__AVX2__)
    for (int r = 0; r < 4; r++) {
      const __m256 v = _mm256_castps128_ps256(_mm_loadu_ps(p + r * ld));
      row[r] = (Vec)_mm256_insertf128_ps(v, _mm_loadu_ps(p + (r + 4) * ld), 1);
    }
    const auto columns = [&](int64_t at, Vec a, Vec b) {
      f(at, (Vec)_mm256_unpacklo_pd((__m256d)a, (__m256d)b));
      f(at + 1, (Vec)_mm256_unpackhi_pd((__m256d)a, (__m256d)b));
    };
    columns(i, (Vec)_mm256_unpacklo_ps((__m256)row[0], (__m256)row[1]),
            (Vec)_mm256_unpacklo_ps((__m256)row[2], (__m256)row[3]));
    columns(i + 2, (Vec)_mm256_unpackhi_ps((__m256)row[0], (__m256)row[1]),
            (Vec)_mm256_unpackhi_ps((__m256)row[2], (__m256)row[3]));
#else
    for (int r = 0; r < 4; r++) row[r] = load(p + r * ld);
    const Vec a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5), b = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    const Vec c = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7), d = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    f(i, __builtin_shufflevector(a, b, 0, 1, 4, 5));
    f(i + 1, __builtin_shufflevector(a, b, 2, 3, 6, 7));
    f(i + 2, __builtin_shufflevector(c, d, 0, 1, 4, 5));
    f(i + 3, __builtin_shufflevector(c, d, 2, 3, 6, 7));
#endif
  }
}

// Lanes whose index has `bit` come from b, the others from a. With `flip` = bit each comes from its partner, whose index
// differs in that bit.
template <int bit, int flip>
inline Vec pick(Vec a, Vec b) {
  static_assert(bit < kLanes);
#define SUPRA_LANE(i) (((i)&bit) ? kLanes : 0) + ((i) ^ flip)
#define SUPRA_LANES(i) SUPRA_LANE(i), SUPRA_LANE(i + 1), SUPRA_LANE(i + 2), SUPRA_LANE(i + 3)
#if defined(__AVX512F__)
  return __builtin_shufflevector(a, b, SUPRA_LANES(0), SUPRA_LANES(4), SUPRA_LANES(8), SUPRA_LANES(12));
#elif defined(__AVX2__)
  return __builtin_shufflevector(a, b, SUPRA_LANES(0), SUPRA_LANES(4));
#else
  return __builtin_shufflevector(a, b, SUPRA_LANES(0));
#endif
#undef SUPRA_LANES
#undef SUPRA_LANE
}
template <int bit>
inline Vec swap_lanes(Vec v) {
  return pick<bit, bit>(v, v);
}

// Sums and maxima over the lanes, in a fixed order: halves are added repeatedly.
template <class F>
inline float fold(Vec v, F f) {
  if constexpr (kLanes > 8) v = f(v, swap_lanes<8>(v));
  if constexpr (kLanes > 4) v = f(v, swap_lanes<4>(v));
  v = f(v, swap_lanes<2>(v));
  v = f(v, swap_lanes<1>(v));
  return v[0];
}
// no lambdas: in the one-file library (tools/build/amalgamate.awk) g++ warns about how they would be called
struct Sum {
  Vec operator()(Vec a, Vec b) const { return a + b; }
};
struct Largest {
  Vec operator()(Vec a, Vec b) const { return max(a, b); }
};
inline float sum(Vec v) { return fold(v, Sum()); }
inline float max(Vec v) { return fold(v, Largest()); }

// sum() of four vectors with half the instructions: two vectors share a register once half of their lanes suffice.
inline void sum_each(const Vec (&v)[4], float (&sums)[4]) {
  constexpr int half = kLanes / 2, quarter = kLanes / 4;
  const Vec a = pick<half, 0>(v[0], v[1]) + pick<half, half>(v[0], v[1]);
  const Vec b = pick<half, 0>(v[2], v[3]) + pick<half, half>(v[2], v[3]);
  Vec all = pick<quarter, 0>(a, b) + pick<quarter, quarter>(a, b);
  if constexpr (quarter > 2) all += swap_lanes<2>(all);
  if constexpr (quarter > 1) all += swap_lanes<1>(all);
  for (int i = 0; i < 4; i++) sums[i] = all[i % 2 * half + i / 2 * quarter];
}

// c[0] + c[1] x + c[2] x^2 + ..., by Horner's rule
template <int n>
inline Vec polynomial(Vec x, const float (&c)[n]) {
  Vec p = broadcast(c[n - 1]);
  for (int i = n - 2; i >= 0; i--) p = fma(p, x, broadcast(c[i]));
  return p;
}

// e^x within 2 ulp: x = n ln2 + r with |r| <= ln2/2 (Cody and Waite), then the degree-6 polynomial of Cephes'
// expf. Results below 2^-126 are zero, above the largest float infinity; NaN stays NaN.
inline Vec exp(Vec x) {
  const Vec clamped = min(max(x, broadcast(-104.0f)), broadcast(89.0f));
  // 1.5 * 2^23: adding it rounds to the nearest integer, which is then in the low bits
  const Vec shifter = broadcast(12582912.0f);
  const Vec shifted = fma(clamped, broadcast(1.44269504f), shifter);
  const Vec n = shifted - shifter;
  Vec r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  Vec p = polynomial(r, {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f, 8.3334519073e-3f,
                         1.3981999507e-3f, 1.9875691500e-4f});
  p = fma(p, r * r, r) + 1.0f;
  // 2^n in two factors, each a normal number for every n that the clamp lets through
  const VecInt k = (VecInt)shifted - (VecInt)shifter;
  const VecInt half = k >> 1;
  const Vec low = (Vec)((half + 127) << 23), high = (Vec)((k - half + 127) << 23);
  return p * low * high;
}

inline Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }

// log(1 + x) within 2 ulp for x in [0, 1]: 2 atanh(s) with s = x / (2 + x), whose series ends early.
inline Vec log1p_unit(Vec x) {
  const Vec s = x / (2.0f + x);
  const Vec p = polynomial(s * s, {2.0f, 2.0f / 3, 2.0f / 5, 2.0f / 7, 2.0f / 9, 2.0f / 11, 2.0f / 13, 2.0f / 15});
  return s * p;
}

// tanh within 2 ulp: an odd polynomial (Cephes' tanhf) near zero, 1 - 2 / (e^2x + 1) elsewhere
inline Vec tanh(Vec x) {
  const Vec a = abs(x), z = x * x;
  const Vec big = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  const Vec p = polynomial(
      z, {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f, 2.06390887954e-2f, -5.70498872745e-3f});
  const Vec small = fma(p * z, a, a);
  const Vec magnitude = select(a < 0.625f, small, big);
  return with_sign_of(x, magnitude);
}

// erf within 2 ulp: x p(x^2) below 1, 1 - e^-q(x) above, where q approximates -log(erfc(x)) up to 4; beyond 4 erf is 1. Both
// polynomials interpolate at Chebyshev nodes.
inline Vec erf(Vec x) {
  const Vec a = abs(x), b = min(a, broadcast(4.0f));
  const Vec small = a * polynomial(x * x, {1.12837913f, -0.376123438f, 0.112803167f, -0.0267150542f,
                                           4.92176203e-3f, -5.64805987e-4f});
  const Vec q = polynomial(b, {7.6589778e-4f, 1.12589365f, 0.639141258f, 0.103281118f, -0.0226047722f,
                               3.43235138e-3f, -3.16937022e-4f, 1.32723618e-5f});
  return with_sign_of(x, select(a < 1.0f, small, 1.0f - exp(-q)));
}

}  // namespace
}  // namespace supra::SUPRA_LEVEL
