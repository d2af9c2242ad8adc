#include <gtest/gtest.h>

#include "kernels/ops.h"
#include "tests/support.h"

namespace supra {

static const AdamwStep kStep = {
    .lr = 1e-2, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .step = 1, .grad_scale = 1};

struct Parameter {
  explicit Parameter(Tensor start) : w(std::move(start)), m(zeros_like(w)), v(zeros_like(w)) {}
  void update(const Tensor& g, const AdamwStep& step) const { adamw_update(w, m, v, g, step); }
  Tensor w, m, v;
};

TEST(Adamw, first_steps_by_hand) {
  const Parameter p(Tensor::of<double>({2, -3}));
  const Tensor g = Tensor::of<double>({0.5, -4});
  p.update(g, kStep);
  // the corrected means are g and g^2: every element moves by lr, whatever its gradient
  EXPECT_NEAR(p.w.data<double>()[0], 2 * (1 - 1e-3) - 1e-2, 1e-9);
  EXPECT_NEAR(p.w.data<double>()[1], -3 * (1 - 1e-3) + 1e-2, 1e-9);
  EXPECT_NEAR(p.m.data<double>()[0], 0.05, 1e-15);
  EXPECT_NEAR(p.v.data<double>()[1], 0.8, 1e-15);
  AdamwStep second = kStep;
  second.step = 2;
  second.weight_decay = 0;
  const double before = p.w.data<double>()[0];
  p.update(Tensor::of<double>({-0.5, 0}), second);
  // m = 0.9 * 0.05 - 0.05, v = 0.25 (1 - 0.95^2)
  EXPECT_NEAR(p.w.data<double>()[0], before + 1e-2 * 0.005 / 0.19 / 0.5, 1e-9);
}

TEST(Adamw, scales_the_gradient_first) {
  const Parameter a(random_normal({33}, 1)), b(a.w.clone());
  const Tensor g = random_normal({33}, 2), quarter = g.clone();
  for (int64_t i = 0; i < 33; i++) quarter.data<float>()[i] /= 4;
  AdamwStep scaled = kStep;
  scaled.grad_scale = 0.25;
  a.update(g, scaled);
  b.update(quarter, kStep);
  EXPECT_TRUE(same_bits(a.w, b.w) && same_bits(a.m, b.m) && same_bits(a.v, b.v));
}

TEST(Adamw, f32_follows_f64_at_every_level_and_thread_count) {
  const RestoreMachine restore;
  // more than one thread's share, and a tail
  const Tensor start = random_normal({70001}, 3);
  const Parameter reference(start.to(Dtype::f64));
  std::vector<Tensor> gradients;
  for (uint64_t step = 0; step < 10; step++) gradients.push_back(random_normal({70001}, 10 + step));
  auto train = [&](const Parameter& p) {
    AdamwStep step = kStep;
    for (const Tensor& g : gradients) {
      p.update(g.to(p.w.dtype()), step);
      step.step++;
    }
  };
  train(reference);
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    Tensor first;
    for (int count : {1, 2, 3}) {
      set_threads(count);
      const Parameter p(start.clone());
      train(p);
      expect_close(p.w, reference.w, name(level));
      expect_close(p.m, reference.m, name(level));
      expect_close(p.v, reference.v, name(level));
      if (count == 1) first = p.w;
      EXPECT_TRUE(same_bits(p.w, first)) << name(level) << ", " << count << " threads";
    }
  }
}

TEST(Adamw, refuses_what_does_not_fit) {
  const Parameter p(Tensor::zeros({4}));
  EXPECT_THROW(p.update(Tensor::zeros({5}), kStep), Error);
  EXPECT_THROW(p.update(Tensor::zeros({4}, Dtype::f64), kStep), Error);
  AdamwStep zeroth = kStep;
  zeroth.step = 0;
  EXPECT_THROW(p.update(Tensor::zeros({4}), zeroth), Error);
  Parameter(Tensor::zeros({0})).update(Tensor::zeros({0}), kStep);
}

TEST(SquaredNorm, is_exact_enough_and_the_same_for_any_thread_count) {
  const RestoreMachine restore;
  for (int64_t n : {0, 1, 15, 16, 17, 16384, 16385, 100003}) {
    const Tensor x = random_normal({n}, 5);
    double expected = 0;
    for (int64_t i = 0; i < n; i++) expected += static_cast<double>(x.data<float>()[i]) * x.data<float>()[i];
    for (CpuLevel level : cpu_levels()) {
      set_cpu_level(level);
      set_threads(1);
      const double alone = squared_norm({x});
      EXPECT_NEAR(alone, expected, 1e-12 * expected) << n;
      for (int count : {2, 3}) {
        set_threads(count);
        EXPECT_EQ(squared_norm({x}), alone) << n;
      }
    }
    EXPECT_NEAR(squared_norm({x.to(Dtype::f64)}), expected, 1e-12 * expected);
  }
  // no float holds this sum
  EXPECT_NEAR(squared_norm({Tensor::full({1000}, 1e30)}) / 1e63, 1, 1e-6);
  EXPECT_TRUE(std::isnan(squared_norm({Tensor::of<float>({1, NAN, 2})})));
  EXPECT_THROW(squared_norm({Tensor::zeros({3}, Dtype::i32)}), Error);
}

}  // namespace supra
