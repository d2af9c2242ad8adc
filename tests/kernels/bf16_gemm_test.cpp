#include <gtest/gtest.h>

#include "kernels/gemm.h"
#include "kernels/products.h"
#include "kernels/simd.h"
#include "tests/support.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Products with factors in bf16: the bits that products.h defines, whatever computes them.

namespace supra {
namespace {

float as_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// Levels that have fused multiply-adds, and the tile instructions' bits with them.
std::vector<CpuLevel> fma_levels() {
  std::vector<CpuLevel> levels;
  for (CpuLevel level : {CpuLevel::avx2, CpuLevel::avx512, CpuLevel::avx512bf16, CpuLevel::amx}) {
    if (level <= best_cpu_level()) levels.push_back(level);
  }
  return levels;
}

class Bf16GemmTest : public testing::Test {
 protected:
  Bf16GemmTest() { flush_denormals(); }
  ~Bf16GemmTest() override { set_products(Products::f32); }
  const RestoreMachine restore;
};

// Random factors whose products are recorded: modes 0 (exponents near 1), 1 (far apart), 2 (near denormals), 3 (any bits).
class GoldenNumbers {
 public:
  explicit GoldenNumbers(uint32_t mode) : mode_(mode), state_(mode) {}
  uint16_t bf16() {
    const uint32_t r = next();
    const uint32_t exponents[] = {124 + (r >> 8) % 4, 107 + (r >> 8) % 40, (r >> 8) % 64 + (r >> 20 & 1 ? 0 : 40)};
    return static_cast<uint16_t>(mode_ == 3 ? r : (r & 0x807f) | exponents[mode_] << 7);
  }
  float f32() {
    const uint32_t r = next();
    const uint32_t exponents[] = {124 + (r >> 24) % 4, 107 + (r >> 24) % 40, (r >> 24) % 8};
    return as_float(mode_ == 3 ? r : (r & 0x807fffff) | exponents[mode_] << 23);
  }

 private:
  uint32_t next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return static_cast<uint32_t>((z ^ z >> 31) >> 32);
  }
  const uint32_t mode_;
  uint64_t state_;
};

// FNV-1a over the results of 16 rounds; multiply(c, a, b): c (16,16), a 16 rows of 32, b 16 rows of 16 pairs.
template <class F>
uint64_t golden_hash(uint32_t mode, F multiply) {
  GoldenNumbers numbers(mode);
  uint64_t hash = 0xcbf29ce484222325;
  for (int round = 0; round < 16; round++) {
    uint16_t a[512], b[512];
    float c[256];
    for (uint16_t& x : a) x = numbers.bf16();
    for (uint16_t& x : b) x = numbers.bf16();
    for (float& x : c) x = numbers.f32();
    multiply(c, a, b);
    for (float x : c) {
      const uint32_t bits = std::isnan(x) ? 0x7fc00000 : bits_of(x);
      for (int byte = 0; byte < 4; byte++) hash = (hash ^ (bits >> 8 * byte & 255)) * 0x100000001b3;
    }
  }
  return hash;
}

constexpr uint64_t kTileHashes[] = {0xb6b2e2544faac2ee, 0xb7a88d93e10401f5, 0x691a81dd2b6b57ab, 0x26d2cf89058189ce};

}  // namespace

// The hashes were recorded on TDPBF16PS of an Intel server core.
TEST_F(Bf16GemmTest, a_tile_has_the_bits_that_amx_gave) {
  const auto multiply = [](float* c, const uint16_t* a, const uint16_t* b) {
    std::vector<float> left(512), right(512);
    for (size_t i = 0; i < 512; i++) {
      left[i] = as_float(uint32_t{a[i]} << 16);
      right[(i / 32 * 2 + i % 2) * 16 + i % 32 / 2] = as_float(uint32_t{b[i]} << 16);
    }
    simd().bf16_gemm_tile(Products::bf16, false, false, 16, 16, 32, left.data(), 32, right.data(), 16, true, c, 16);
  };
  for (CpuLevel level : fma_levels()) {
    set_cpu_level(level);
    for (uint32_t mode = 0; mode < 4; mode++) EXPECT_EQ(golden_hash(mode, multiply), kTileHashes[mode]) << name(level) << ", mode " << mode;
  }
  // without fused multiply-adds as long as no product of two factors overflows or is denormal
  set_cpu_level(CpuLevel::baseline);
  for (uint32_t mode = 0; mode < 2; mode++) EXPECT_EQ(golden_hash(mode, multiply), kTileHashes[mode]) << "baseline, mode " << mode;
}

#if defined(__x86_64__)
__attribute__((target("avx512f,avx512bf16"))) static void dots(float* c, const uint16_t* a, const uint16_t* b) {
  for (int row = 0; row < 16; row++) {
    const __m512 sums = _mm512_dpbf16_ps(_mm512_loadu_ps(c + 16 * row), (__m512bh)_mm512_loadu_si512(a + 32 * row),
                                         (__m512bh)_mm512_loadu_si512(b + 32 * row));
    _mm512_storeu_ps(c + 16 * row, sums);
  }
}

// The same on Zen 4 as on the Intel core where the hashes were recorded: the second term of a pair first, two roundings, denormals are zero.
TEST_F(Bf16GemmTest, vdpbf16ps_is_what_was_recorded) {
  if (best_cpu_level() < CpuLevel::avx512bf16) GTEST_SKIP() << "this processor has no AVX512-BF16";
  constexpr uint64_t kHashes[] = {0xb973aa81c3eedfc0, 0x285fedc97715c45c, 0xd7d5e9e1758cffef, 0x55553d74023120db};
  for (uint32_t mode = 0; mode < 4; mode++) EXPECT_EQ(golden_hash(mode, dots), kHashes[mode]) << "mode " << mode;
}
#endif

namespace {

struct Product {
  bool ta, tb, accumulate;
  int64_t M, N, K;

  std::string text() const {
    return format("%s%s %ld x %ld x %ld%s", ta ? "T" : "N", tb ? "T" : "N", static_cast<long>(M), static_cast<long>(N),
                  static_cast<long>(K), accumulate ? ", added" : "");
  }
};

// Sizes around a tile, two, a block of depth and one of columns.
std::vector<Product> products_of_all_shapes() {
  struct Size {
    int64_t M, N, K;
  };
  std::vector<Product> list;
  for (auto [M, N, K] : {Size{1, 1, 1}, {1, 40, 33}, {15, 17, 31}, {16, 16, 32}, {33, 31, 2}, {32, 64, 64}, {47, 35, 257}, {70, 33, 300},
                         {34, 1060, 40}, {3, 520, 515}}) {
    for (int flags = 0; flags < 8; flags++) list.push_back({!!(flags & 1), !!(flags & 2), !!(flags & 4), M, N, K});
  }
  return list;
}

// Rows lie kGap elements further apart than their width.
constexpr int64_t kGap = 3;

// Factors with NaN in their gaps, and C, whose gaps hold 42.
struct Operands {
  std::vector<float> a, b, c;

  explicit Operands(const Product& p) {
    a = matrix(p.ta ? p.K : p.M, p.ta ? p.M : p.K, 0, NAN);
    b = matrix(p.tb ? p.N : p.K, p.tb ? p.K : p.N, 9973, NAN);
    c = matrix(p.M, p.N, 20011, 42);
    for (float& x : c) x = p.accumulate || x == 42 ? x : NAN;
  }
  static std::vector<float> matrix(int64_t rows, int64_t columns, size_t place, float between) {
    static const Tensor numbers = random_normal({1 << 16}, 1);
    std::vector<float> m(static_cast<size_t>(rows * (columns + kGap)), between);
    for (int64_t i = 0; i < rows; i++) {
      for (int64_t j = 0; j < columns; j++) m[static_cast<size_t>(i * (columns + kGap) + j)] = numbers.data<float>()[place++ & 0xffff];
    }
    return m;
  }
};

// For EXPECT_EQ: floats that are equal may be zeros of two signs.
std::vector<uint32_t> bits(const std::vector<float>& c) {
  std::vector<uint32_t> all;
  for (float x : c) all.push_back(bits_of(x));
  return all;
}

template <class F>
std::vector<float> computed(const Product& p, F kernel) {
  Operands o(p);
  kernel(p.ta, p.tb, p.M, p.N, p.K, o.a.data(), (p.ta ? p.M : p.K) + kGap, o.b.data(), (p.tb ? p.K : p.N) + kGap, p.accumulate, o.c.data(),
         p.N + kGap);
  return o.c;
}

float to_bf16(float x) {
  const uint32_t bits = bits_of(x);
  if (std::isnan(x)) return as_float((bits | 0x400000) & 0xffff0000);
  if ((bits & 0x7f800000) == 0) return as_float(bits & 0x80000000);
  return as_float((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

// What products.h says, one element after the other.
void by_definition(Products products, bool ta, bool tb, int64_t M, int64_t N, int64_t K, const float* a, int64_t lda, const float* b,
                   int64_t ldb, bool accumulate, float* c, int64_t ldc) {
  const auto part = [](float x, bool low) { return low ? to_bf16(x - to_bf16(x)) : to_bf16(x); };
  using Lows = std::vector<std::pair<bool, bool>>;
  const Lows terms = products == Products::bf16 ? Lows{{false, false}} : Lows{{true, false}, {false, true}, {false, false}};
  for (int64_t i = 0; i < M; i++) {
    for (int64_t j = 0; j < N; j++) {
      float sum = accumulate ? c[i * ldc + j] : 0;
      for (int64_t first = 0; first < K; first += 32) {
        for (auto [low_a, low_b] : terms) {
          float sums[2] = {};
          for (int64_t k = first; k < first + 32; k++) {
            const float x = k < K ? part(ta ? a[k * lda + i] : a[i * lda + k], low_a) : 0;
            const float y = k < K ? part(tb ? b[j * ldb + k] : b[k * ldb + j], low_b) : 0;
            sums[k & 1] = std::fma(x, y, sums[k & 1]);
          }
          sum += sums[0] + sums[1];
        }
      }
      c[i * ldc + j] = sum;
    }
  }
}

}  // namespace

TEST_F(Bf16GemmTest, every_level_gives_the_bits_of_the_definition) {
  for (Products mode : {Products::bf16, Products::bf16x3}) {
    for (const Product& p : products_of_all_shapes()) {
      const auto expected = bits(computed(p, [=](auto... args) { by_definition(mode, args...); }));
      std::vector<CpuLevel> levels = fma_levels();
      levels.push_back(CpuLevel::baseline);
      for (CpuLevel level : levels) {
        set_cpu_level(level);
        ASSERT_EQ(bits(computed(p, [=](auto... args) { simd().bf16_gemm_tile(mode, args...); })), expected)
            << name(mode) << " " << p.text() << ", " << name(level);
      }
    }
  }
}

// By how much a sum may be off: the factors' rounding, and that of so many additions.
TEST_F(Bf16GemmTest, errors_are_within_their_bounds) {
  for (const Product& p : products_of_all_shapes()) {
    const auto in_f64 = [&](bool magnitudes) {
      const Operands o(p);
      std::vector<double> a(o.a.begin(), o.a.end()), b(o.b.begin(), o.b.end()), c(o.c.begin(), o.c.end());
      for (auto* m : {&a, &b, &c}) {
        for (double& x : *m) x = magnitudes ? std::fabs(x) : x;
      }
      gemm(p.ta, p.tb, p.M, p.N, p.K, a.data(), (p.ta ? p.M : p.K) + kGap, b.data(), (p.tb ? p.K : p.N) + kGap, p.accumulate, c.data(),
           p.N + kGap);
      return c;
    };
    const std::vector<double> exact = in_f64(false), size = in_f64(true);
    for (Products mode : {Products::bf16, Products::bf16x3}) {
      const std::vector<float> c = computed(p, [=](auto... args) { simd().bf16_gemm_tile(mode, args...); });
      const double sums = std::ldexp(static_cast<double>(p.K + 2), -24);
      const double bound = mode == Products::bf16 ? std::ldexp(1, -7) + std::ldexp(1, -16) + sums : 3 * std::ldexp(1, -16) + 3 * sums;
      for (size_t i = 0; i < c.size(); i++) ASSERT_LE(std::fabs(c[i] - exact[i]), bound * size[i]) << name(mode) << " " << p.text() << ", element " << i;
    }
  }
}

TEST_F(Bf16GemmTest, same_bits_at_any_thread_count) {
  for (Products mode : {Products::bf16, Products::bf16x3}) {
    set_products(mode);
    for (int flags = 0; flags < 8; flags++) {
      const Product p = {!!(flags & 1), !!(flags & 2), !!(flags & 4), 203, 331, 300};
      const auto expected = bits(computed(p, [=](auto... args) { simd().bf16_gemm_tile(mode, args...); }));
      for (int count : {1, 2, 3}) {
        set_threads(count);
        ASSERT_EQ(bits(computed(p, [](auto... args) { gemm(args...); })), expected) << name(mode) << " " << p.text() << ", " << count << " threads";
      }
    }
  }
}

TEST_F(Bf16GemmTest, small_products_stay_in_f32) {
  for (const Product& p : {Product{false, true, false, 31, 64, 64}, {false, false, true, 64, 31, 64}, {true, false, false, 64, 64, 31}}) {
    const auto in_f32 = computed(p, [](auto... args) { gemm(args...); });
    set_products(Products::bf16);
    EXPECT_EQ(computed(p, [](auto... args) { gemm(args...); }), in_f32) << p.text();
    set_products(Products::f32);
  }
}

TEST_F(Bf16GemmTest, what_is_not_finite_stays_in_its_row_and_column) {
  constexpr int64_t n = 50;
  const Tensor a = random_normal({n, n}, 1), b = random_normal({n, n}, 2), c = Tensor::empty({n, n});
  a.data<float>()[7 * n + 9] = NAN;
  b.data<float>()[3 * n + 40] = INFINITY;
  for (Products mode : {Products::bf16, Products::bf16x3}) {
    simd().bf16_gemm_tile(mode, false, false, n, n, n, a.data<float>(), n, b.data<float>(), n, false, c.data<float>(), n);
    for (int64_t i = 0; i < n * n; i++) ASSERT_EQ(std::isfinite(c.data<float>()[i]), i / n != 7 && i % n != 40) << name(mode) << ", element " << i;
  }
}

}  // namespace supra
