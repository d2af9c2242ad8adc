#include <gtest/gtest.h>

#include <chrono>
#include <complex>
#include <thread>

#include "kernels/ops.h"
#include "tests/support.h"

// Rotary positions against complex multiplication; the table of operations proves the rest.

namespace supra {

using Layout = Rope::Layout;

// Pair i of a head times e^(i angle), from the definition.
static Tensor by_definition(const Tensor& x, const Rope& rope, const std::vector<int64_t>& first) {
  const int64_t T = x.dim(1), H = x.dim(2), K = x.dim(3), dims = rope.dims ? rope.dims : K;
  const Tensor y = x.clone();
  for (int64_t row = 0; row < x.numel() / K; row++) {
    const int64_t h = row % H, t = row / H % T, b = row / H / T;
    double* head = y.data<double>() + row * K;
    for (int64_t i = 0; i < dims / 2; i++) {
      const bool by_head = rope.layout == Layout::by_head;
      const double base = by_head ? 10000 : rope.base, scale = by_head ? 1 : rope.scale;
      const double position = static_cast<double>(by_head ? h : first[static_cast<size_t>(b)] + t) / scale;
      const double angle =
          position * std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(dims)) /
          (rope.divisors.empty() ? 1 : rope.divisors[static_cast<size_t>(i)]);
      double& real = head[rope.layout == Layout::interleaved ? 2 * i : i];
      double& imaginary = head[rope.layout == Layout::interleaved ? 2 * i + 1 : i + dims / 2];
      const std::complex<double> turned = std::complex(real, imaginary) * std::polar(rope.magnitude, angle);
      real = turned.real();
      imaginary = turned.imag();
    }
  }
  return y;
}

TEST(Rope, turns_pairs_by_their_angle) {
  const RestoreMachine restore;
  const Tensor x = random_normal({2, 5, 3, 38}, 1, Dtype::f64);
  for (Layout layout : {Layout::half, Layout::interleaved, Layout::by_head}) {
    for (const Rope& r : {Rope{.layout = layout}, Rope{.layout = layout, .base = 500, .scale = 8},
                          Rope{.layout = layout, .dims = 20}, Rope{.layout = layout, .dims = 2},
                          Rope{.layout = layout, .dims = 4, .divisors = {0.5, 8}, .magnitude = 1.2}}) {
      for (const std::vector<int64_t>& first : {std::vector<int64_t>{0, 0}, {60000, 60000}, {3, 100000}}) {
        const Tensor expected = by_definition(x, r, first);
        EXPECT_LE(difference(rope(Var(x), r, first).value(), expected).largest, 1e-10);
        for (CpuLevel level : cpu_levels()) {
          set_cpu_level(level);
          EXPECT_LE(difference(rope(Var(x.to(Dtype::f32)), r, first).value(), expected).largest, 2 * kEps);
        }
      }
    }
  }
}

// A call that reaches beyond the trained context takes other frequencies at all its positions (transformers' longrope and dynamic).
TEST(Rope, beyond_the_trained_context_frequencies_are_others) {
  const Tensor x = random_normal({2, 9, 3, 8}, 1, Dtype::f64);
  const Rope longer = {.dims = 4, .divisors = {0.5, 8}, .magnitude = 1.2, .trained = 12, .long_divisors = {3, 9}};
  const Rope dynamic = {.base = 500, .trained = 12, .dynamic = 2};
  for (const int64_t first : {0, 3, 4, 30}) {
    const int64_t length = first + 9;
    Rope of_divisors = {.dims = 4, .divisors = length > 12 ? longer.long_divisors : longer.divisors, .magnitude = 1.2};
    Rope of_base = {.base = length > 12 ? 500 * std::pow(2 * static_cast<double>(length) / 12 - 1, 8.0 / 6) : 500};
    EXPECT_LE(difference(rope(Var(x), longer, {0, first}).value(), by_definition(x, of_divisors, {0, first})).largest, 1e-10);
    EXPECT_LE(difference(rope(Var(x), dynamic, {0, first}).value(), by_definition(x, of_base, {0, first})).largest, 1e-10);
  }
}

TEST(Rope, steps_equal_the_whole_sequence) {
  const Tensor x = random_normal({1, 9, 2, 16}, 2);
  const Rope r{.layout = Layout::half};
  const Tensor whole = rope(Var(x), r, {7}).value().view({9, 32});
  for (int64_t t = 0; t < 9; t++) {
    const Tensor step = rope(Var(x.view({9, 1, 2, 16}).rows(t, t + 1)), r, {7 + t}).value();
    EXPECT_TRUE(same_bits(step.view({1, 32}), whole.rows(t, t + 1))) << t;
  }
}

TEST(Rope, a_late_step_costs_what_an_early_one_does) {
  const Var x(random_normal({1, 1, 2, 16}, 3));
  // the best of many, each at a position not seen before
  auto best = [&](int64_t first) {
    auto shortest = std::chrono::nanoseconds::max();
    for (int64_t i = 0; i < 50; i++) {
      const auto start = std::chrono::steady_clock::now();
      rope(x, {}, {first + i});
      shortest = std::min<std::chrono::nanoseconds>(shortest, std::chrono::steady_clock::now() - start);
    }
    return shortest;
  };
  EXPECT_LT(best(60000), 20 * best(100));
}

TEST(Rope, threads_do_not_share_a_table) {
  const Tensor x = random_normal({1, 8, 2, 16}, 4);
  std::vector<std::thread> callers;
  std::vector<Tensor> expected, given(3);
  for (int64_t caller = 0; caller < 3; caller++)
    expected.push_back(rope(Var(x), {}, {caller * 1000}).value());
  for (size_t caller = 0; caller < 3; caller++) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 200; round++) {
        given[caller] = rope(Var(x), {}, {static_cast<int64_t>(caller) * 1000}).value();
        rope(Var(x), {}, {round});
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  for (size_t caller = 0; caller < 3; caller++) EXPECT_TRUE(same_bits(given[caller], expected[caller]));
}

TEST(Rope, handles_nothing_and_refuses_nonsense) {
  EXPECT_EQ(rope(Var(Tensor::empty({2, 0, 3, 4})), {}, {0, 5}).value().numel(), 0);
  EXPECT_EQ(rope(Var(Tensor::empty({0, 2, 3, 4})), {}, {}).value().numel(), 0);
  const Var x(random_normal({2, 3, 2, 6}, 5));
  EXPECT_EQ(rope(x, {.layout = Layout::none}, {}).value().raw(), x.value().raw());
  EXPECT_THROW(rope(x, {}, {0}), Error);
  EXPECT_THROW(rope(x, {.dims = 3}, {0, 0}), Error);
  EXPECT_THROW(rope(x, {.dims = 8}, {0, 0}), Error);
  EXPECT_THROW(rope(Var(random_normal({2, 3, 6}, 5)), {}, {0, 0}), Error);
  EXPECT_THROW(rope(Var(x.value().to(Dtype::bf16)), {}, {0, 0}), Error);
}

}  // namespace supra
