#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/support.h"

// The loss where it is extreme; its gradient and its speed levels are proved from the table of operations.

namespace supra {

static Tensor targets(const std::vector<int32_t>& ids) { return Tensor::of(ids); }

TEST(CrossEntropy, is_the_formula) {
  const Var x(Tensor::of<double>({0, std::log(3.0), 1, 1}, {2, 2}));
  EXPECT_NEAR(cross_entropy(x, targets({1, 0})).value().item(), (std::log(4.0 / 3) + std::log(2.0)) / 2,
              1e-15);
  EXPECT_NEAR(cross_entropy(x, targets({kIgnore, 0})).value().item(), std::log(2.0), 1e-15);
  const double lse = std::log(4.0);
  EXPECT_NEAR(cross_entropy(x, targets({1, kIgnore}), 0.5).value().item(),
              std::log(4.0 / 3) + 0.5 * lse * lse, 1e-15);
}

TEST(CrossEntropy, is_zero_where_every_target_is_left_out) {
  for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
    const Var x(random_normal({3, 5}, 1, dtype), true);
    const Var loss = cross_entropy(x, targets({kIgnore, kIgnore, kIgnore}), 0.1);
    EXPECT_EQ(loss.value().item(), 0);
    backward(loss);
    EXPECT_TRUE(same_bits(x.grad(), Tensor::zeros({3, 5}, dtype)));
  }
}

TEST(CrossEntropy, keeps_its_digits_over_a_large_vocabulary) {
  const RestoreMachine restore;
  const Tensor x64 = random_normal({3, 50257}, 2, Dtype::f64);
  // far from zero, where a float holds few digits of lse
  for (int64_t i = 0; i < x64.numel(); i++) x64.data<double>()[i] = x64.data<double>()[i] * 8 + 64;
  const Tensor x32 = x64.to(Dtype::f32), exact = x32.to(Dtype::f64);
  const Var reference(exact, true);
  const Var expected = cross_entropy(reference, targets({0, 50256, 777}), 1e-3);
  backward(expected);
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    const Var given(x32, true);
    const Var loss = cross_entropy(given, targets({0, 50256, 777}), 1e-3);
    backward(loss);
    EXPECT_NEAR(loss.value().item() / expected.value().item(), 1, 1e-6) << name(level);
    expect_close(given.grad(), reference.grad(), name(level));
  }
}

TEST(CrossEntropy, survives_extreme_logits) {
  const RestoreMachine restore;
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    for (float big : {1e4f, 1e30f}) {
      std::vector<float> values(37, -big);
      values[36] = big;
      const Var x(Tensor::of(values, {1, 37}), true);
      const Var right = cross_entropy(x, targets({36})), wrong = cross_entropy(x, targets({0}));
      EXPECT_EQ(right.value().item(), 0);
      EXPECT_FLOAT_EQ(static_cast<float>(wrong.value().item()), 2 * big);
      backward(wrong);
      EXPECT_EQ(x.grad().data<float>()[0], -1);
      EXPECT_EQ(x.grad().data<float>()[36], 1);
      EXPECT_EQ(x.grad().data<float>()[1], 0);
    }
    std::vector<float> masked(20, -INFINITY);
    masked[3] = masked[19] = 5;
    EXPECT_FLOAT_EQ(
        static_cast<float>(cross_entropy(Var(Tensor::of(masked, {1, 20})), targets({3})).value().item()),
        std::log(2.0f));
    masked[7] = NAN;
    EXPECT_TRUE(std::isnan(cross_entropy(Var(Tensor::of(masked, {1, 20})), targets({3})).value().item()));
  }
}

TEST(CrossEntropy, refuses_what_does_not_fit) {
  const Var x(random_normal({2, 5}, 3));
  EXPECT_THROW(cross_entropy(x, targets({0, 5})), Error);
  EXPECT_THROW(cross_entropy(x, targets({0, -1})), Error);
  EXPECT_THROW(cross_entropy(x, targets({0})), Error);
  EXPECT_THROW(cross_entropy(x, Tensor::of<int64_t>({0, 1})), Error);
  EXPECT_THROW(cross_entropy(Var(x.value().to(Dtype::f16)), targets({0, 1})), Error);
  EXPECT_THROW(token_nll(x.value(), targets({0, 5})), Error);
}

// 400 rows of 40,000 logits are three blocks.
TEST(LinearCrossEntropy, is_the_loss_of_the_logits_it_never_holds) {
  const int64_t N = 400, O = 40000, C = 9;
  std::vector<int32_t> ids(N);
  for (int64_t n = 0; n < N; n++) ids[n] = n % 7 == 0 ? kIgnore : static_cast<int32_t>(n * 257 % O);
  const Tensor h = random_normal({N, C}, 5), w = random_normal({O, C}, 6);
  const Var h1(h, true), w1(w, true), h2(h, true), w2(w, true);
  const Var given = linear_cross_entropy(h1, w1, targets(ids), 1e-3);
  const Var expected = cross_entropy(linear(h2, w2), targets(ids), 1e-3);
  EXPECT_NEAR(given.value().item(), expected.value().item(), 1e-5);
  const Tensor seed = Tensor::full({1}, 3);
  backward(given, seed);
  backward(expected, seed);
  expect_close(h1.grad(), h2.grad(), "dh", 4);
  expect_close(w1.grad(), w2.grad(), "dw", 4);
  const size_t before = memory_stats().current;
  reset_peak();
  linear_cross_entropy(Var(h), Var(w), targets(ids));
  EXPECT_LT(memory_stats().peak - before, sizeof(float) * N * O / 2);
}

TEST(TokenNll, is_the_loss_of_each_row) {
  const Tensor x = random_normal({2, 3, 41}, 4);
  const Tensor ids = targets({0, 40, kIgnore, 7, 8, 9}).view({2, 3});
  const Tensor nll = token_nll(x, ids);
  EXPECT_EQ(nll.shape(), (Shape{6}));
  EXPECT_EQ(nll.data<float>()[2], 0);
  double sum = 0;
  for (int64_t n = 0; n < 6; n++) sum += nll.data<float>()[n];
  EXPECT_NEAR(sum / 5, cross_entropy(Var(x), ids).value().item(), 1e-6);
  EXPECT_LE(difference(nll, token_nll(x.to(Dtype::f64), ids)).largest, 2 * kEps);
}

}  // namespace supra
