#include <gtest/gtest.h>

#include "autograd/var.h"
#include "tests/gradcheck.h"
#include "tests/support.h"

// The engine, with operations of its own making: it knows no kernel.

namespace supra {

using Vars = std::vector<Var>;

static Tensor values(const std::vector<double>& v) { return Tensor::of(v); }

template <class F>
static Tensor elementwise(const Tensor& a, const Tensor& b, F f) {
  const Tensor y = empty_like(a);
  for (int64_t i = 0; i < a.numel(); i++) y.data<double>()[i] = f(a.data<double>()[i], b.data<double>()[i]);
  return y;
}

static Var plus(const Var& a, const Var& b) {
  const Tensor y = elementwise(a.value(), b.value(), [](double p, double q) { return p + q; });
  // one tensor goes to both inputs
  return record("plus", {a, b}, y, [](const Tensor& dy, Grads& grads) {
    grads.give(0, dy);
    grads.give(1, dy);
  });
}

static Var times(const Var& a, const Var& b) {
  auto product = [](const Tensor& p, const Tensor& q) {
    return elementwise(p, q, [](double x, double y) { return x * y; });
  };
  return record("times", {a, b}, product(a.value(), b.value()),
                [=, a = a.value(), b = b.value()](const Tensor& dy, Grads& grads) {
                  if (grads.needs(0)) grads.give(0, product(dy, b));
                  if (grads.needs(1)) grads.give(1, product(dy, a));
                });
}

// y = x w, w a parameter: its gradient is added to in place
static Var weighted(const Var& x, const Var& w) {
  const Tensor y = elementwise(x.value(), w.value(), [](double p, double q) { return p * q; });
  return record("weighted", {x, w}, y, [x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    if (grads.needs(1)) {
      const Tensor dw = grads.into(1);
      for (int64_t i = 0; i < dw.numel(); i++)
        dw.data<double>()[i] += dy.data<double>()[i] * x.data<double>()[i];
    }
    grads.give(0, elementwise(dy, w, [](double p, double q) { return p * q; }));
  });
}

static void expect_values(const Tensor& t, const std::vector<double>& expected) {
  ASSERT_TRUE(t.defined());
  ASSERT_EQ(t.numel(), static_cast<int64_t>(expected.size()));
  for (size_t i = 0; i < expected.size(); i++)
    EXPECT_DOUBLE_EQ(t.data<double>()[i], expected[i]) << "element " << i;
}

static std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Autograd, a_square_and_a_sum) {
  const Var x(values({3}), true);
  const Var y = plus(times(x, x), x);
  EXPECT_TRUE(y.requires_grad());
  backward(y);
  expect_values(x.grad(), {7});
  x.clear_grad();
  EXPECT_FALSE(x.grad().defined());
}

TEST(Autograd, a_deep_chain_needs_no_stack) {
  const Var x(values({1}), true);
  Var y = x;
  const Var one(values({1}));
  for (int i = 0; i < 300000; i++) y = times(y, one);
  backward(y);
  expect_values(x.grad(), {1});
  // a chain that goes without a backward
  Var z = x;
  for (int i = 0; i < 300000; i++) z = plus(z, x);
  z = {};
}

TEST(Autograd, diamonds_run_each_node_once) {
  const Var x(values({1, 2}), true);
  Var y = x;
  // 2^40 paths
  for (int i = 0; i < 40; i++) y = plus(y, y);
  backward(y, values({1, 0.5}));
  expect_values(x.grad(), {0x1p40, 0x1p39});
}

TEST(Autograd, a_tied_parameter_gathers_from_every_use) {
  const Var w(values({2, 3}), true), x(values({5, 7}), true);
  const Var y = weighted(weighted(x, w), w);
  backward(y, values({1, 1}));
  expect_values(w.grad(), {20, 42});
  expect_values(x.grad(), {4, 9});
}

TEST(Autograd, gradients_of_several_batches_add_up) {
  const Var w(values({2}), true);
  for (double x : {1.0, 10.0, 100.0}) backward(weighted(Var(values({x})), w));
  expect_values(w.grad(), {111});
}

TEST(Autograd, a_gradient_shared_by_two_inputs_is_not_written_to) {
  const Var a(values({1}), true), b(values({1}), true);
  const Tensor seed = values({1});
  // plus hands one tensor to both; the second use of b then adds to b's
  backward(plus(times(b, Var(values({10}))), plus(a, b)), seed);
  expect_values(a.grad(), {1});
  expect_values(b.grad(), {11});
  expect_values(seed, {1});
  // a gradient that somebody kept is not changed behind their back
  const Tensor kept = a.grad();
  backward(weighted(Var(values({3})), a), seed);
  expect_values(a.grad(), {4});
  expect_values(kept, {1});
}

TEST(Autograd, no_grad_records_nothing_and_ends_where_it_ends) {
  const Var x(values({2}), true);
  {
    NoGrad off;
    { NoGrad again; }
    EXPECT_FALSE(grad_enabled());
    EXPECT_FALSE(will_record({x}));
    EXPECT_FALSE(times(x, x).requires_grad());
  }
  EXPECT_TRUE(grad_enabled());
  EXPECT_TRUE(will_record({x}));
  const Var constant = x.detach(), none;
  EXPECT_FALSE(will_record({constant, none}));
  EXPECT_FALSE(times(x.detach(), x.detach()).requires_grad());
}

TEST(Autograd, an_op_without_backward_refuses_by_name) {
  const Var x(values({2}), true);
  EXPECT_NE(message_of([&] { refuse_gradient("argmax", {x}); }).find("argmax has no backward"),
            std::string::npos);
  const Var constant = x.detach();
  refuse_gradient("argmax", {constant});
  NoGrad off;
  refuse_gradient("argmax", {x});
}

TEST(Autograd, a_graph_is_good_for_one_backward) {
  const Var x(values({2}), true);
  const Var middle = times(x, x);
  const Var y = plus(middle, x), z = plus(middle, x);
  backward(y);
  EXPECT_NE(message_of([&] { backward(y); }).find("plus"), std::string::npos);
  // the part behind `middle` is used up, too
  EXPECT_NE(message_of([&] { backward(z); }).find("times"), std::string::npos);
}

TEST(Autograd, roots_are_checked) {
  const Var x(values({2, 3}), true);
  EXPECT_THROW(backward(times(x, x)), Error);
  EXPECT_THROW(backward(times(x, x), values({1})), Error);
  EXPECT_THROW(backward(x.detach(), values({1, 1})), Error);
  EXPECT_THROW(Var().value(), Error);
}

TEST(Autograd, saved_memory_goes_with_the_backward) {
  const size_t before = memory_stats().current;
  const Var x(Tensor::zeros({1000}, Dtype::f64), true);
  Var y = x;
  for (int i = 0; i < 10; i++) y = times(y, y);
  EXPECT_GT(memory_stats().current - before, 10 * 8000u);
  backward(y, Tensor::zeros({1000}, Dtype::f64));
  // x, its gradient and y
  EXPECT_LT(memory_stats().current - before, 4 * 8192u);
}

// Two outputs x + 1 and 2 x.
static std::vector<Var> two_ways(const Var& x) {
  auto apply = [&](auto f) {
    return elementwise(x.value(), x.value(), [f](double p, double) { return f(p); });
  };
  return record_many("two_ways", {x},
                     {apply([](double p) { return p + 1; }), apply([](double p) { return 2 * p; })},
                     [](std::span<const Tensor> dy, Grads& grads) {
                       if (dy[0].defined()) grads.give(0, dy[0]);
                       if (dy[1].defined())
                         grads.give(0, elementwise(dy[1], dy[1], [](double p, double) { return 2 * p; }));
                     });
}

TEST(Autograd, outputs_that_are_not_used_have_no_gradient) {
  const Var x(values({2}), true);
  backward(two_ways(x)[1]);
  expect_values(x.grad(), {2});
  const std::vector<Var> both = two_ways(x);
  // a state whose gradient came from elsewhere, and one that has none
  backward(both, {values({10}), Tensor()});
  expect_values(x.grad(), {12});
  const std::vector<Var> again = two_ways(x);
  backward(again, {values({1}), values({1})});
  expect_values(x.grad(), {15});
}

TEST(Autograd, what_gets_no_gradient_is_not_run) {
  const Var x(values({2}), true), w(values({5}), true);
  bool ran = false;
  const Var unused = record("unused", {x}, values({1}), [&](const Tensor&, Grads&) { ran = true; });
  const Var y =
      record("picky", {unused, w}, values({1}), [](const Tensor& dy, Grads& grads) { grads.give(1, dy); });
  backward(y);
  EXPECT_FALSE(ran);
  EXPECT_FALSE(x.grad().defined());
  expect_values(w.grad(), {1});
}

static Var checkpointed(const std::function<Var(const Vars&)>& fn, const Vars& inputs) {
  return checkpoint([fn](const Vars& in) { return Vars{fn(in)}; }, inputs)[0];
}

TEST(ActivationCheckpoint, gives_the_gradients_of_the_plain_graph) {
  const Var w(values({0.5, -2}), true);
  auto block = [&](const Vars& in) { return plus(weighted(times(in[0], in[1]), w), in[0]); };
  std::vector<Tensor> grads[2];
  for (bool with : {false, true}) {
    const Var a(values({3, 4}), true), b(values({5, -6}), true);
    w.clear_grad();
    Var y = a;
    for (int layer = 0; layer < 3; layer++) y = with ? checkpointed(block, {y, b}) : block({y, b});
    backward(times(y, y), values({1, 1}));
    grads[with] = {a.grad(), b.grad(), w.grad(), y.value()};
  }
  for (size_t i = 0; i < grads[0].size(); i++) EXPECT_TRUE(same_bits(grads[0][i], grads[1][i])) << i;
}

TEST(ActivationCheckpoint, reaches_parameters_when_no_input_asks) {
  const Var w(values({2}), true);
  const Var y = checkpointed([&](const Vars& in) { return weighted(in[0], w); }, {Var(values({7}))});
  backward(y);
  expect_values(w.grad(), {7});
}

TEST(ActivationCheckpoint, nests_and_skips_unused_inputs) {
  const Var a(values({3}), true), b(values({4}), true);
  auto square = [](const Vars& in) { return times(in[0], in[0]); };
  auto fourth = [&](const Vars& in) { return checkpointed(square, {checkpointed(square, {in[0]})}); };
  backward(checkpointed(fourth, {plus(a, a), plus(b, b)}));
  expect_values(a.grad(), {8 * 216});
  EXPECT_FALSE(b.grad().defined());
}

TEST(ActivationCheckpoint, keeps_less) {
  auto block = [](const Vars& in) {
    Var y = in[0];
    for (int i = 0; i < 20; i++) y = times(y, y);
    return y;
  };
  const Var x(Tensor::zeros({1000}, Dtype::f64), true);
  const size_t before = memory_stats().current;
  const Var plain = block({x});
  const size_t kept_plain = memory_stats().current - before;
  const Var y = checkpointed(block, {x});
  EXPECT_LT(memory_stats().current - before - kept_plain, kept_plain / 8);
}

TEST(ActivationCheckpoint, that_throws_in_backward_leaves_recording_as_it_was) {
  int calls = 0;
  const Var x(values({2}), true);
  const Var y = checkpointed(
      [&](const Vars& in) {
        if (++calls == 2) fail("the second time");
        return times(in[0], in[0]);
      },
      {x});
  NoGrad off;
  EXPECT_THROW(backward(y), Error);
  EXPECT_FALSE(grad_enabled());
}

TEST(Gradcheck, passes_what_is_right) {
  EXPECT_EQ(gradcheck(
                [](const Vars& in) -> Vars {
                  return {times(in[0], in[1]), plus(in[0], in[1])};
                },
                {values({1, 2, 3}), values({-1, 0.5, 2})}),
            "");
}

TEST(Gradcheck, catches_a_wrong_gradient) {
  auto wrong = [](const Vars& in) -> Vars {
    const Tensor y = elementwise(in[0].value(), in[0].value(), [](double p, double q) { return p * q; });
    return {record("square", {in[0]}, y, [x = in[0].value()](const Tensor& dy, Grads& grads) {
      grads.give(0, elementwise(dy, x, [](double d, double p) { return 1.999 * d * p; }));
    })};
  };
  EXPECT_NE(gradcheck(wrong, {values({1, 2})}).find("input 0"), std::string::npos);
  auto none = [](const Vars& in) -> Vars { return {times(in[0], in[0])}; };
  EXPECT_NE(gradcheck(none, {values({1}), values({1})}).find("input 1 got no gradient"), std::string::npos);
  auto nan = [](const Vars& in) -> Vars {
    return {record("nan", {in[0]}, in[0].value(), [](const Tensor& dy, Grads& grads) {
      grads.give(0, Tensor::full(dy.shape(), NAN, Dtype::f64));
    })};
  };
  EXPECT_NE(gradcheck(nan, {values({1})}), "");
}

}  // namespace supra
