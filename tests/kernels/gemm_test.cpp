#include "kernels/gemm.h"

#include <gtest/gtest.h>

#include "tests/support.h"

namespace supra {

struct Product {
  bool ta, tb, accumulate;
  int64_t M, N, K;

  std::string text() const {
    return format("%s%s %ld x %ld x %ld%s", ta ? "T" : "N", tb ? "T" : "N", static_cast<long>(M),
                  static_cast<long>(N), static_cast<long>(K), accumulate ? ", added" : "");
  }
};

// Sizes around the skinny kernel, the micro-tiles, the blocks of rows and of depth, and a thread's share.
static const std::vector<Product>& products() {
  static const std::vector<Product> all = [] {
    std::vector<Product> list;
    for (int64_t M : {0, 1, 2, 3, 4, 23, 203}) {
      for (int64_t N : {0, 1, 16, 47, 131}) {
        for (int64_t K : {0, 1, 7, 64, 300}) {
          for (int flags = 0; flags < 8; flags++)
            list.push_back({!!(flags & 1), !!(flags & 2), !!(flags & 4), M, N, K});
        }
      }
    }
    return list;
  }();
  return all;
}

// The same random numbers for every matrix, from another place on.
static float number(int64_t place) {
  static const Tensor numbers = random_normal({1 << 16}, 1);
  return numbers.data<float>()[place % numbers.numel()];
}

// Rows lie kGap elements further apart than their width; what stands between them is `between`.
constexpr int64_t kGap = 3;
template <class T>
static std::vector<T> matrix(int64_t rows, int64_t columns, int64_t place, T between) {
  std::vector<T> m(rows * (columns + kGap), between);
  for (int64_t i = 0; i < rows; i++) {
    for (int64_t j = 0; j < columns; j++) m[i * (columns + kGap) + j] = number(place++);
  }
  return m;
}

// C, gaps included, of a product whose factors have NaN in their gaps.
template <class T>
static std::vector<T> multiply(const Product& p, bool magnitudes = false) {
  const T nan = std::numeric_limits<T>::quiet_NaN();
  std::vector<T> a = p.ta ? matrix<T>(p.K, p.M, 0, nan) : matrix<T>(p.M, p.K, 0, nan);
  std::vector<T> b = p.tb ? matrix<T>(p.N, p.K, 9973, nan) : matrix<T>(p.K, p.N, 9973, nan);
  std::vector<T> c = matrix<T>(p.M, p.N, 20011, 42);
  if (!p.accumulate) {
    for (T& x : c) x = x == 42 ? x : nan;
  }
  if (magnitudes) {
    for (auto* m : {&a, &b, &c})
      std::transform(m->begin(), m->end(), m->begin(), [](T x) { return std::fabs(x); });
  }
  gemm(p.ta, p.tb, p.M, p.N, p.K, a.data(), (p.ta ? p.M : p.K) + kGap, b.data(), (p.tb ? p.K : p.N) + kGap,
       p.accumulate, c.data(), p.N + kGap);
  return c;
}

TEST(GemmTest, the_reference_is_right) {
  // [1 2; 3 4] [5 6; 7 8], each factor also given transposed
  const double a[] = {1, 2, 3, 4}, at[] = {1, 3, 2, 4}, b[] = {5, 6, 7, 8}, bt[] = {5, 7, 6, 8};
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      double c[] = {1, 1, 1, 1};
      gemm(ta, tb, 2, 2, 2, ta ? at : a, 2, tb ? bt : b, 2, true, c, 2);
      EXPECT_EQ(std::vector<double>(c, c + 4), (std::vector<double>{20, 23, 44, 51}));
      gemm(ta, tb, 2, 2, 2, ta ? at : a, 2, tb ? bt : b, 2, false, c, 2);
      EXPECT_EQ(std::vector<double>(c, c + 4), (std::vector<double>{19, 22, 43, 50}));
    }
  }
}

TEST(GemmTest, f32_agrees_with_f64_at_every_level) {
  const RestoreMachine restore;
  set_threads(1);
  for (const Product& p : products()) {
    const std::vector<double> reference = multiply<double>(p), scale = multiply<double>(p, true);
    for (CpuLevel level : cpu_levels()) {
      set_cpu_level(level);
      const std::vector<float> c = multiply<float>(p);
      for (size_t i = 0; i < c.size(); i++) {
        const double error = std::fabs(c[i] - reference[i]);
        ASSERT_TRUE(error <= 4 * kEps * scale[i]) << p.text() << ", " << name(level) << ": element " << i
                                                  << " is " << c[i] << ", not " << reference[i];
      }
    }
  }
}

TEST(GemmTest, same_bits_at_any_thread_count) {
  const RestoreMachine restore;
  // smaller ones stay in one thread
  std::vector<Product> large;
  std::copy_if(products().begin(), products().end(), std::back_inserter(large),
               [](const Product& p) { return p.M * p.N * p.K >= 1 << 18; });
  for (int64_t M : {1, 4}) large.push_back({false, true, true, M, 3001, 300});
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    std::vector<std::vector<float>> first;
    for (int count : {1, 2, 3}) {
      set_threads(count);
      for (size_t i = 0; i < large.size(); i++) {
        if (count == 1) first.push_back(multiply<float>(large[i]));
        ASSERT_EQ(multiply<float>(large[i]), first[i])
            << large[i].text() << ", " << name(level) << ", " << count << " threads";
      }
    }
  }
}

}  // namespace supra
