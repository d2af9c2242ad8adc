#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/support.h"

// Norms where the table of operations does not look: far from zero, flat rows, no rows, and what is refused.

namespace supra {

TEST(Norm, a_large_mean_costs_no_digits_of_the_variance) {
  const RestoreMachine restore;
  // steps of 1/8 around 4096: exact in f32
  std::vector<float> values;
  for (int i = 0; i < 96; i++) values.push_back(4096 + static_cast<float>(i % 7) / 8);
  const Tensor x = Tensor::of(values, {2, 48});
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    const Tensor x64 = x.to(Dtype::f64);
    // what the mean loses as a float, 2^-11 of the spread at most, is all that may be lost
    EXPECT_LE(difference(layernorm(Var(x), {}, {}, 1e-5).value(), layernorm(Var(x64), {}, {}, 1e-5).value())
                  .largest,
              1e-3);
    EXPECT_LE(difference(groupnorm(Var(x), 6, 1e-5).value(), groupnorm(Var(x64), 6, 1e-5).value()).largest,
              1e-3);
  }
}

TEST(Norm, flat_rows_become_zero) {
  const RestoreMachine restore;
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    const Var x(Tensor::full({3, 64}, 2.5));
    EXPECT_TRUE(same_bits(layernorm(x, {}, {}, 1e-5).value(), Tensor::zeros({3, 64})));
    EXPECT_TRUE(same_bits(groupnorm(x, 8, 1e-5).value(), Tensor::zeros({3, 64})));
    EXPECT_TRUE(same_bits(groupnorm(x, 1, 1e-5).value(), Tensor::zeros({3, 64})));
    EXPECT_TRUE(same_bits(groupnorm(x, 64, 1e-5).value(), Tensor::zeros({3, 64})));
    const Var zero(Tensor::zeros({3, 64})), w(Tensor::full({64}, 1));
    EXPECT_TRUE(same_bits(rmsnorm(zero, w, 1e-5).value(), zero.value()));
  }
}

TEST(Norm, a_group_is_a_row_of_its_own) {
  const Tensor x = random_normal({5, 4 * 12}, 1, Dtype::f64);
  EXPECT_LE(difference(groupnorm(Var(x), 4, 1e-5).value().view({20, 12}),
                       layernorm(Var(x.view({20, 12})), {}, {}, 1e-5).value())
                .largest,
            1e-14);
}

TEST(Norm, no_rows_are_no_work) {
  const Var x(Tensor::empty({0, 8}), true), w(Tensor::full({8}, 1), true), b(Tensor::zeros({8}), true);
  for (const Var& y : {rmsnorm(x, w, 1e-5), layernorm(x, w, b, 1e-5), groupnorm(x, 2, 1e-5)}) {
    EXPECT_EQ(y.shape(), (Shape{0, 8}));
    backward(y, Tensor::empty({0, 8}));
  }
  EXPECT_TRUE(same_bits(w.grad(), Tensor::zeros({8})));
}

TEST(Norm, frozen_weights_get_no_gradient) {
  const Var x(random_normal({3, 8}, 2), true), w(Tensor::full({8}, 1)), b(Tensor::zeros({8}));
  backward(rmsnorm(x, w, 1e-5), random_normal({3, 8}, 3));
  backward(layernorm(x, w, b, 1e-5), random_normal({3, 8}, 3));
  EXPECT_TRUE(all_finite(x.grad()));
  EXPECT_FALSE(w.grad().defined() || b.grad().defined());
}

TEST(Norm, refuses_what_does_not_fit) {
  const Var x(random_normal({3, 8}, 4)), w(Tensor::zeros({7}));
  EXPECT_THROW(rmsnorm(x, w, 1e-5), Error);
  EXPECT_THROW(layernorm(x, w, {}, 1e-5), Error);
  EXPECT_THROW(layernorm(x, {}, w, 1e-5), Error);
  EXPECT_THROW(groupnorm(x, 3, 1e-5), Error);
  EXPECT_THROW(groupnorm(x, 0, 1e-5), Error);
  EXPECT_THROW(groupnorm(Var(x.value().to(Dtype::bf16)), 2, 1e-5), Error);
  EXPECT_THROW(rmsnorm(x, Var(Tensor::zeros({8}, Dtype::f64)), 1e-5), Error);
}

}  // namespace supra
