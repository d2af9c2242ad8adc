#include <gtest/gtest.h>

#include <cfloat>

#include "kernels/activation.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tests/support.h"

// How exact the functions of one number are, over all of their range. tools/bench/ops_table.cpp proves the
// operations.

namespace supra {

template <class F>
static void each_level(F f) {
  const RestoreMachine restore;
  for (CpuLevel level : cpu_levels()) {
    SCOPED_TRACE(name(level));
    set_cpu_level(level);
    f();
  }
}

// Every 1009th float of both signs, infinities and NaN among them, then a dense grid near zero.
static std::vector<float> many_floats() {
  std::vector<float> x = {INFINITY, -INFINITY, NAN, 0.0f, -0.0f};
  for (uint64_t bits = 0; bits < (uint64_t{1} << 32); bits += 1009) {
    const uint32_t pattern = static_cast<uint32_t>(bits);
    float value;
    memcpy(&value, &pattern, sizeof value);
    if (std::fpclassify(value) != FP_SUBNORMAL) x.push_back(value);
  }
  for (int i = -120000; i <= 120000; i++) x.push_back(static_cast<float>(i) * 1e-3f);
  return x;
}

TEST(ElementwiseTest, exp_is_within_two_ulp) {
  const std::vector<float> x = many_floats();
  each_level([&] {
    std::vector<float> y(x.size());
    simd().exp_scaled(y.data(), x.data(), 0, 1, static_cast<int64_t>(x.size()), false);
    for (size_t i = 0; i < x.size(); i++) {
      const double exact = std::exp(static_cast<double>(x[i]));
      if (std::isnan(x[i])) {
        ASSERT_TRUE(std::isnan(y[i]));
      } else if (exact < std::numeric_limits<float>::min()) {
        // what is too small for a normal float may be zero
        ASSERT_LE(std::fabs(y[i] - exact), std::numeric_limits<float>::min()) << x[i];
      } else if (exact > std::numeric_limits<float>::max()) {
        ASSERT_EQ(y[i], INFINITY) << x[i];
      } else {
        const float rounded = static_cast<float>(exact);
        const double ulp = std::nextafter(rounded, INFINITY) - static_cast<double>(rounded);
        ASSERT_LE(std::fabs(y[i] - exact), 2 * std::fmin(ulp, 1e38)) << x[i];
      }
    }
  });
}

TEST(ElementwiseTest, activations_are_exact_to_rounding) {
  std::vector<float> x = {NAN};
  for (float value : many_floats()) {
    if (std::fabs(value) < 1e15f) x.push_back(value);
  }
  const int64_t n = static_cast<int64_t>(x.size());
  for (Activation f : {Activation::relu, Activation::silu, Activation::gelu_erf, Activation::gelu_tanh}) {
    SCOPED_TRACE(format("activation %d", static_cast<int>(f)));
    each_level([&] {
      std::vector<float> y(x.size()), slope(x.size());
      simd().activation_fwd(y.data(), x.data(), n, f);
      simd().activation_bwd(slope.data(), std::vector<float>(x.size(), 1).data(), x.data(), n, f);
      EXPECT_TRUE(std::isnan(y[0]));
      for (size_t i = 1; i < x.size(); i++) {
        // results below the smallest normal number are flushed
        ASSERT_LE(std::fabs(y[i] - activate(f, x[i])), 2e-7 * std::fabs(x[i]) + FLT_MIN) << x[i];
        ASSERT_LE(std::fabs(slope[i] - activation_slope(f, x[i])), 7e-7) << x[i];
      }
    });
  }
}

TEST(ElementwiseTest, other_dtypes_and_shapes_throw) {
  const Var half(Tensor::zeros({2, 3}, Dtype::f16)), x(Tensor::zeros({2, 3})), wide(Tensor::zeros({2, 4}));
  EXPECT_THROW(add(half, half), Error);
  EXPECT_THROW(scale(half, 2), Error);
  EXPECT_THROW(silu(half), Error);
  EXPECT_THROW(add(x, wide), Error);
  EXPECT_THROW(mul(x, Var(Tensor::zeros({2, 3}, Dtype::f64))), Error);
  EXPECT_THROW(swiglu(x), Error);
  EXPECT_THROW(swiglu(Var(Tensor::zeros({}))), Error);
}

}  // namespace supra
