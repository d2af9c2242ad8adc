#include <gtest/gtest.h>

#include <functional>

#include "kernels/ops.h"
#include "tests/gradcheck.h"
#include "tests/support.h"

// Both attentions. The truth is the f64 reference: the plain recurrence for linear attention, two loops for
// softmax. Fast code must agree with it at every level, give the same bits for any number of threads, and the
// same values however a sequence is split.

namespace supra {
namespace {

class Attention : public testing::Test {
  RestoreMachine restore_;
};

void at_every_level(const std::function<void(const std::string&)>& f) {
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    f(name(level));
  }
}

// x (B,T1,...), y (B,T2,...) -> (B,T1+T2,...)
Tensor join(const Tensor& x, const Tensor& y) {
  Shape shape = x.shape();
  shape[1] += y.dim(1);
  const Tensor z = Tensor::empty(shape, x.dtype());
  const int64_t row = z.numel() / (z.dim(0) * z.dim(1));
  for (int64_t b = 0; b < z.dim(0); b++) {
    const Tensor target = z.rows(b, b + 1).view({z.dim(1), row});
    target.rows(0, x.dim(1)).copy_from(x.rows(b, b + 1));
    target.rows(x.dim(1), z.dim(1)).copy_from(y.rows(b, b + 1));
  }
  return z;
}

enum class Decay { fixed, by_token };

struct Linear {
  int64_t B = 2, T = 65, H = 4, Gk = 4, Gv = 4, K = 8, V = 8;
  Decay decay = Decay::fixed;
  std::vector<int64_t> lengths = {};
  double scale = 0.4;

  std::string name() const {
    return format("B%ld T%ld H%ld Gk%ld Gv%ld K%ld V%ld %s", long(B), long(T), long(H), long(Gk), long(Gv),
                  long(K), long(V), decay == Decay::fixed ? "fixed" : "by token");
  }
};

enum { kQ, kK, kV, kLogDecay, kState };

// q, k, v, log_decay, state. The first head does not decay at all, the last one forgets nearly everything at
// once.
std::vector<Tensor> make_inputs(const Linear& c, Dtype dtype = Dtype::f32) {
  std::vector<Tensor> in = {random_normal({c.B, c.T, c.H, c.K}, 1), random_normal({c.B, c.T, c.Gk, c.K}, 2),
                            random_normal({c.B, c.T, c.Gv, c.V}, 3),
                            Tensor::zeros(c.decay == Decay::fixed ? Shape{c.H} : Shape{c.B, c.T, c.H}),
                            random_normal({c.B, c.H, c.K, c.V}, 4)};
  Philox random(5);
  for (int64_t i = 0; i < in[kLogDecay].numel(); i++) {
    const int64_t h = i % c.H;
    const double steepest = h == 0 ? 0 : h == c.H - 1 ? 12 : 0.1 * h;
    in[kLogDecay].data<float>()[i] =
        static_cast<float>(-steepest * (c.decay == Decay::fixed ? 1 : random.uniform()));
  }
  for (Tensor& t : in) t = t.to(dtype);
  return in;
}

LinearAttention run(const Linear& c, const std::vector<Var>& in) {
  return linear_attention(in[kQ], in[kK], in[kV], in[kLogDecay], c.scale, in[kState], c.lengths);
}

LinearAttention run(const Linear& c, const std::vector<Tensor>& in) {
  std::vector<Var> vars;
  for (const Tensor& t : in) vars.emplace_back(t);
  return run(c, vars);
}

const char* const kLinearNames[] = {"o", "last state", "dq", "dk", "dv", "dlog_decay", "dstate"};

// o, the last state, and the gradients of all five inputs when both outputs count.
std::vector<Tensor> run_both_ways(const Linear& c, const std::vector<Tensor>& in) {
  std::vector<Var> vars;
  for (const Tensor& t : in) vars.emplace_back(t, true);
  const LinearAttention y = run(c, vars);
  backward({y.o, y.state},
           {random_normal(y.o.shape(), 6, y.o.dtype()), random_normal(y.state.shape(), 7, y.o.dtype())});
  std::vector<Tensor> results = {y.o.value(), y.state.value()};
  for (const Var& v : vars) results.push_back(v.grad());
  return results;
}

void expect_reference(const Linear& c) {
  const std::vector<Tensor> reference = run_both_ways(c, make_inputs(c, Dtype::f64));
  at_every_level([&](const std::string& level) {
    const std::vector<Tensor> given = run_both_ways(c, make_inputs(c));
    for (size_t i = 0; i < given.size(); i++) {
      // one number for all steps and rows: a sum of differences of what is much larger
      const double sum_of_differences = i == 5 && c.decay == Decay::fixed ? 16 : 1;
      expect_close(given[i], reference[i], level + ", " + c.name() + ", " + kLinearNames[i],
                   sum_of_differences);
    }
  });
}

// Around the ends of a chunk: narrow heads take short chunks, wide ones long ones.
TEST_F(Attention, linear_agrees_with_the_recurrence_at_any_length) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    for (int64_t T : {1, 2, 31, 32, 33, 63, 64, 65, 130, 257}) {
      Linear c;
      c.T = T, c.decay = decay;
      expect_reference(c);
      c.B = 1, c.H = c.Gk = c.Gv = 2, c.K = 33, c.V = 32;
      expect_reference(c);
    }
  }
}

TEST_F(Attention, linear_agrees_with_the_recurrence_at_any_width) {
  const std::pair<int64_t, int64_t> widths[] = {{1, 1},   {6, 5},   {8, 12},  {12, 8},
                                                {16, 33}, {64, 17}, {7, 128}, {128, 64}};
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    for (auto [K, V] : widths) {
      Linear c;
      c.B = 1, c.T = 97, c.K = K, c.V = V, c.decay = decay;
      expect_reference(c);
    }
  }
}

TEST_F(Attention, linear_shares_key_and_value_heads) {
  const std::pair<int64_t, int64_t> heads[] = {{4, 2}, {2, 4}, {2, 2}, {1, 1}, {1, 4}};
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    for (auto [Gk, Gv] : heads) {
      Linear c;
      c.Gk = Gk, c.Gv = Gv, c.V = 12, c.decay = decay;
      expect_reference(c);
    }
  }
  Linear c;
  c.H = 6, c.Gk = 3, c.Gv = 2;
  expect_reference(c);
}

TEST_F(Attention, linear_has_the_same_bits_for_any_thread_count) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    Linear c;
    c.B = 3, c.T = 190, c.Gk = 1, c.K = 16, c.decay = decay;
    at_every_level([&](const std::string& level) {
      set_threads(1);
      const std::vector<Tensor> first = run_both_ways(c, make_inputs(c));
      for (int count : {1, 2, 3}) {
        set_threads(count);
        const std::vector<Tensor> again = run_both_ways(c, make_inputs(c));
        for (size_t i = 0; i < first.size(); i++) {
          EXPECT_TRUE(same_bits(again[i], first[i]))
              << level << ", " << count << " threads, " << kLinearNames[i];
        }
      }
    });
  }
}

// f(x1); f(x2) == f(x1 x2)
TEST_F(Attention, linear_may_be_split_anywhere) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    Linear c;
    c.T = 150, c.Gk = 2, c.Gv = 1, c.V = 11, c.decay = decay;
    at_every_level([&](const std::string& level) {
      const std::vector<Tensor> in = make_inputs(c);
      const LinearAttention whole = run(c, in);
      Philox random(8);
      for (int trial = 0; trial < 6; trial++) {
        const int64_t cut = static_cast<int64_t>(random.below(c.T + 1));
        auto part = [&](int64_t begin, int64_t end, const Tensor& state) {
          std::vector<Tensor> piece;
          for (int i : {kQ, kK, kV}) piece.push_back(steps(in[i], begin, end));
          piece.push_back(decay == Decay::fixed ? in[kLogDecay] : steps(in[kLogDecay], begin, end));
          piece.push_back(state);
          return run(c, piece);
        };
        const LinearAttention left = part(0, cut, in[kState]), right = part(cut, c.T, left.state.value());
        const std::string where = format("%s, cut at %ld", level.c_str(), long(cut));
        expect_close(join(left.o.value(), right.o.value()), whole.o.value(), where);
        expect_close(right.state.value(), whole.state.value(), where);
      }
    });
  }
}

TEST_F(Attention, linear_steps_give_what_chunks_give) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    for (auto [K, V] : {std::pair<int64_t, int64_t>{8, 8}, {6, 13}, {16, 65}, {64, 128}}) {
      Linear c;
      c.T = 70, c.Gk = 2, c.K = K, c.V = V, c.decay = decay;
      at_every_level([&](const std::string& level) {
        const std::vector<Tensor> in = make_inputs(c);
        const LinearAttention whole = run(c, in);
        const Tensor state = in[kState].clone();
        Tensor o;
        for (int64_t t = 0; t < c.T; t++) {
          const Tensor log_decay = decay == Decay::fixed ? in[kLogDecay] : steps(in[kLogDecay], t, t + 1);
          const Tensor y = linear_attention_step(state, steps(in[kQ], t, t + 1), steps(in[kK], t, t + 1),
                                                 steps(in[kV], t, t + 1), log_decay, c.scale);
          o = o.defined() ? join(o, y) : y;
        }
        expect_close(o, whole.o.value(), level + ", " + c.name() + ", o");
        expect_close(state, whole.state.value(), level + ", " + c.name() + ", state");
      });
    }
  }
}

// A state that query heads share is that of each of them, where each has one.
TEST_F(Attention, linear_steps_may_share_a_state) {
  Linear c;
  c.T = 1, c.H = 6, c.Gk = c.Gv = 2, c.K = 6, c.V = 37;
  at_every_level([&](const std::string& level) {
    std::vector<Tensor> in = make_inputs(c);
    in[kLogDecay].fill(0);
    const Tensor state = random_normal({c.B, c.Gk, c.K, c.V}, 9);
    const Tensor one_each = repeat_heads(Var(state.view({c.B, 1, c.Gk, c.K * c.V})), 3).value().view({c.B, c.H, c.K, c.V});
    for (int step = 0; step < 3; step++) {
      const Tensor o = linear_attention_step(state, in[kQ], in[kK], in[kV], in[kLogDecay], c.scale);
      const Tensor expected = linear_attention_step(one_each, in[kQ], in[kK], in[kV], in[kLogDecay], c.scale);
      EXPECT_TRUE(same_bits(o, expected)) << level << ", step " << step;
    }
    EXPECT_TRUE(same_bits(repeat_heads(Var(state.view({c.B, 1, c.Gk, c.K * c.V})), 3).value().view(one_each.shape()), one_each));
    // only where keys and values are as many
    EXPECT_THROW(linear_attention_step(state, in[kQ], in[kK], random_normal({c.B, 1, 6, c.V}, 3), in[kLogDecay], 1), Error);
    EXPECT_THROW(linear_attention_step(random_normal({c.B, 3, c.K, c.V}, 9), in[kQ], in[kK], in[kV], in[kLogDecay], 1), Error);
  });
}

// Rows of several lengths equal each row alone; what stands behind a row's end is poison.
TEST_F(Attention, linear_rows_end_where_their_length_says) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    Linear c;
    c.B = 5, c.T = 140, c.Gv = 2, c.decay = decay, c.lengths = {140, 0, 1, 64, 77};
    for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
      std::vector<Tensor> in = make_inputs(c, dtype);
      for (int i : {kQ, kK, kV, kLogDecay}) {
        if (i == kLogDecay && decay == Decay::fixed) continue;
        for (int64_t b = 0; b < c.B; b++) {
          in[i].rows(b, b + 1).view({c.T, -1}).rows(c.lengths[b], c.T).fill(NAN);
        }
      }
      at_every_level([&](const std::string& level) {
        const std::vector<Tensor> together = run_both_ways(c, in);
        for (int64_t b = 0; b < c.B; b++) {
          const std::string where = format("%s, row %ld", level.c_str(), long(b));
          std::vector<Var> row;
          for (int i : {kQ, kK, kV}) row.emplace_back(steps(in[i], 0, c.lengths[b], b), true);
          row.emplace_back(decay == Decay::fixed ? in[kLogDecay] : steps(in[kLogDecay], 0, c.lengths[b], b),
                           true);
          row.emplace_back(in[kState].rows(b, b + 1), true);
          Linear alone = c;
          alone.lengths = {};
          const LinearAttention y = run(alone, row);
          const Tensor seed = random_normal(together[0].shape(), 6, dtype);
          const Tensor state_seed = random_normal(together[1].shape(), 7, dtype);
          backward({y.o, y.state}, {steps(seed, 0, c.lengths[b], b), state_seed.rows(b, b + 1)});
          std::vector<Tensor> results = {y.o.value(), y.state.value()};
          for (const Var& v : row) results.push_back(v.grad());
          for (size_t i = 0; i < results.size(); i++) {
            const bool of_steps = i != 1 && i != 6;
            if (i == 5 && decay == Decay::fixed) continue;
            const Tensor given =
                of_steps ? steps(together[i], 0, c.lengths[b], b) : together[i].rows(b, b + 1);
            EXPECT_TRUE(same_bits(given, results[i])) << where << ", " << kLinearNames[i];
            if (!of_steps) continue;
            const Tensor behind = steps(together[i], c.lengths[b], c.T, b);
            EXPECT_TRUE(same_bits(behind, zeros_like(behind)))
                << where << ", behind the end of " << kLinearNames[i];
          }
        }
        EXPECT_TRUE(all_finite(together[5])) << level;
      });
    }
  }
}

TEST_F(Attention, linear_gradients_agree_with_central_differences) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    for (auto [Gk, Gv] : {std::pair<int64_t, int64_t>{4, 4}, {4, 2}, {1, 2}}) {
      Linear c;
      c.T = 5, c.K = 3, c.V = 2, c.Gk = Gk, c.Gv = Gv, c.decay = decay;
      auto fn = [&](const std::vector<Var>& in) -> std::vector<Var> {
        const LinearAttention y = run(c, in);
        return {y.o, y.state};
      };
      EXPECT_EQ(gradcheck(fn, make_inputs(c, Dtype::f64)), "") << c.name();
      c.lengths = {5, 2};
      EXPECT_EQ(gradcheck(fn, make_inputs(c, Dtype::f64)), "") << c.name() << ", with lengths";
    }
  }
}

// A loss on one output only, no state before the first step, no gradient asked of some inputs.
TEST_F(Attention, linear_works_with_what_is_left_out) {
  Linear c;
  const std::vector<Tensor> in = make_inputs(c), wide = make_inputs(c, Dtype::f64);
  auto dq = [&](const std::vector<Tensor>& x, bool use_state, Tensor* o) {
    Var q(x[kQ], true);
    const LinearAttention y = linear_attention(q, Var(x[kK]), Var(x[kV]), Var(x[kLogDecay]), c.scale);
    *o = y.o.value();
    const Var& root = use_state ? y.state : y.o;
    backward(root, Tensor::full(root.shape(), 1, root.dtype()));
    return q.grad();
  };
  at_every_level([&](const std::string& level) {
    Tensor o, o_wide;
    expect_close(dq(in, false, &o), dq(wide, false, &o_wide), level + ", dq");
    expect_close(o, o_wide, level + ", o");
    const Tensor none = dq(in, true, &o);
    EXPECT_TRUE(same_bits(none, zeros_like(none))) << "the last state does not depend on q";
  });
}

TEST_F(Attention, linear_reads_no_fresh_memory) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    for (int64_t T : {1, 17, 100}) {
      Linear c;
      c.T = T, c.K = 5, c.V = 9, c.Gk = 2, c.decay = decay;
      at_every_level([&](const std::string& level) {
        const std::vector<Tensor> clean = run_both_ways(c, make_inputs(c));
        set_poison(true);
        const std::vector<Tensor> poisoned = run_both_ways(c, make_inputs(c));
        set_poison(false);
        for (size_t i = 0; i < clean.size(); i++) {
          EXPECT_TRUE(same_bits(poisoned[i], clean[i])) << level << ", " << kLinearNames[i];
        }
      });
    }
  }
}

// Nothing overflows, and what is forgotten leaves no NaN behind.
TEST_F(Attention, linear_stands_extreme_decays) {
  for (double log_decay : {-1e-4, -90.0, -1e5, -1e30, -double{INFINITY}}) {
    for (Decay decay : {Decay::fixed, Decay::by_token}) {
      Linear c;
      c.T = 130, c.decay = decay;
      std::vector<Tensor> in = make_inputs(c);
      // one head in two; by token also one step in three, so that gentle and steep ones alternate
      for (int64_t i = 0; i < in[kLogDecay].numel(); i++) {
        if (i % 2 == 1 && i / c.H % 3 == 0) in[kLogDecay].data<float>()[i] = static_cast<float>(log_decay);
      }
      std::vector<Tensor> wide;
      for (const Tensor& t : in) wide.push_back(t.to(Dtype::f64));
      const std::vector<Tensor> reference = run_both_ways(c, wide);
      at_every_level([&](const std::string& level) {
        const std::vector<Tensor> given = run_both_ways(c, in);
        for (size_t i = 0; i < given.size(); i++) {
          expect_close(given[i], reference[i],
                       format("%s, log decay %g, %s", level.c_str(), log_decay, kLinearNames[i]));
        }
      });
    }
  }
}

// The slowest decay of a long sequence: errors of a chunk's decay would pile up.
TEST_F(Attention, linear_stays_accurate_over_a_long_sequence) {
  for (Decay decay : {Decay::fixed, Decay::by_token}) {
    Linear c;
    c.B = 1, c.T = 4096, c.H = 2, c.Gk = c.Gv = 2, c.decay = decay;
    std::vector<Tensor> in = make_inputs(c), wide;
    for (int64_t i = 0; i < in[kLogDecay].numel(); i++)
      in[kLogDecay].data<float>()[i] = i % 2 ? -2.5e-4f : -0.0078f;
    // features of one sign, as after a ReLU: the state grows as far as the decay lets it
    for (int i : {kQ, kK, kV}) {
      for (int64_t j = 0; j < in[i].numel(); j++) in[i].data<float>()[j] = std::fabs(in[i].data<float>()[j]);
    }
    for (const Tensor& t : in) wide.push_back(t.to(Dtype::f64));
    const std::vector<Tensor> reference = run_both_ways(c, wide);
    at_every_level([&](const std::string& level) {
      const std::vector<Tensor> given = run_both_ways(c, in);
      for (size_t i = 0; i < given.size(); i++) {
        expect_close(given[i], reference[i], level + ", " + c.name() + ", " + kLinearNames[i], 4);
      }
    });
  }
}

TEST_F(Attention, linear_says_what_does_not_fit) {
  const Linear c;
  const std::vector<Tensor> in = make_inputs(c);
  auto with = [&](int i, const Tensor& t) {
    std::vector<Tensor> changed = in;
    changed[i] = t;
    return run(c, changed);
  };
  EXPECT_THROW(with(kK, Tensor::zeros({2, 65, 3, 8})), Error) << "4 query heads, 3 key heads";
  EXPECT_THROW(with(kK, Tensor::zeros({2, 64, 4, 8})), Error);
  EXPECT_THROW(with(kV, Tensor::zeros({2, 65, 32})), Error);
  EXPECT_THROW(with(kLogDecay, Tensor::zeros({3})), Error);
  EXPECT_THROW(with(kState, Tensor::zeros({2, 4, 8, 7})), Error);
  EXPECT_THROW(with(kState, in[kState].to(Dtype::f64)), Error);
  Linear wrong = c;
  wrong.lengths = {65};
  EXPECT_THROW(run(wrong, in), Error);
  wrong.lengths = {65, 66};
  EXPECT_THROW(run(wrong, in), Error);
  EXPECT_THROW(linear_attention_step(in[kState], in[kQ], in[kK], in[kV], in[kLogDecay], 1), Error)
      << "65 steps";
}

// y and the gradients of o, lse, far and mass, one row of two values
std::vector<Tensor> joined(double lse, double mass, std::vector<float> far, Dtype dtype) {
  const auto leaf = [=](const Tensor& t) { return Var(t.to(dtype), true); };
  const std::vector<Var> in = {leaf(Tensor::of<float>({0.75, -2}, {1, 1, 1, 2})), leaf(Tensor::full({1, 1, 1}, lse)),
                               leaf(Tensor::of(far, {1, 1, 1, 3})), leaf(Tensor::full({1, 1, 1}, mass))};
  const Var y = join_attention(in[0], in[1], in[2], in[3]);
  backward(y, Tensor::of<float>({3, 5}, y.shape()).to(dtype));
  std::vector<Tensor> all = {y.value()};
  for (const Var& v : in) all.push_back(v.grad());
  for (Tensor& t : all) {
    EXPECT_TRUE(all_finite(t)) << lse << ", " << mass;
    t = t.to(Dtype::f32).view({-1});
  }
  return all;
}

TEST_F(Attention, joined_parts_may_weigh_anything_or_nothing) {
  using List = std::vector<float>;
  const auto is = [](const Tensor& t, const List& expected) { expect_close(t, Tensor::of(expected), "joined"); };
  for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
    for (double lse : {-1e4, 0.0, 1e4}) {
      for (double mass : {-1e4, 0.0, 1e4}) {
        const std::vector<Tensor> none = joined(lse, mass, {0, 0, 0}, dtype);
        is(none[0], {0.75, -2});
        is(none[1], {3, 5});
        is(none[2], {0});
        is(none[4], {0});
        const std::vector<Tensor> both = joined(lse, mass, {1, 2, 4}, dtype);
        is(both[0], lse > mass ? List{0.75, -2} : lse < mass ? List{0.25, 0.5} : List{0.35, 0});
        is(both[1], lse > mass ? List{3, 5} : lse < mass ? List{0, 0} : List{0.6, 1});
        // (u - z o).dy = 44 for equal weights of 1/5
        is(both[2], {lse == mass ? -44.0f / 25 : 0});
        is(both[3], lse > mass ? List{0, 0, 0} : lse < mass ? List{0.75, 1.25, -3.25f / 4} : List{0.6, 1, -1.05f / 5});
        is(both[4], {lse == mass ? 44.0f / 25 : 0});
      }
    }
  }
  const auto join = [](const Shape& lse, const Shape& far, const Shape& mass) {
    const auto zeros = [](const Shape& shape) { return Var(Tensor::zeros(shape)); };
    return join_attention(zeros({2, 3, 4, 5}), zeros(lse), zeros(far), zeros(mass));
  };
  EXPECT_EQ(join({2, 3, 4}, {2, 3, 4, 6}, {2, 3, 4}).shape(), (Shape{2, 3, 4, 5}));
  EXPECT_THROW(join({2, 3, 5}, {2, 3, 4, 6}, {2, 3, 4}), Error);
  EXPECT_THROW(join({2, 3, 4}, {2, 3, 4, 5}, {2, 3, 4}), Error);
  EXPECT_THROW(join({2, 3, 4}, {2, 3, 4, 6}, {2, 3, 4, 1}), Error);
}

TEST_F(Attention, softmax_features_bear_extremes) {
  at_every_level([](const std::string& level) {
    for (float shift : {0.0f, 1e9f, -1e9f}) {
      const Tensor x = Tensor::of<float>({shift + 1e4f, shift, shift, shift - 1e4f});
      const Tensor y = softmax_features(Var(x), 1).value();
      expect_close(y, Tensor::of<float>({1, 0, 0, 0, 0, 0, 0, 1}), level);
    }
    expect_close(softmax_features(Var(Tensor::full({1, 6}, -7)), 2).value(), Tensor::full({1, 12}, 1.0 / 3), level);
  });
  EXPECT_THROW(softmax_features(Var(Tensor::zeros({2, 6})), 4), Error);
  EXPECT_THROW(softmax_features(Var(Tensor::zeros({2, 6})), 0), Error);
}

struct Softmax {
  int64_t B = 2, T = 65, S = 65, H = 4, G = 2, K = 8, V = 8;
  std::vector<int64_t> first = {0, 0};
  double scale = 0.5;
  int64_t window = 0;

  std::string name() const {
    return format("B%ld T%ld S%ld H%ld G%ld K%ld V%ld window %ld", long(B), long(T), long(S), long(H), long(G),
                  long(K), long(V), long(window));
  }
};

const char* const kSoftmaxNames[] = {"o", "dq", "dk", "dv"};

std::vector<Tensor> make_inputs(const Softmax& c, Dtype dtype = Dtype::f32) {
  return {random_normal({c.B, c.T, c.H, c.K}, 1, dtype), random_normal({c.B, c.S, c.G, c.K}, 2, dtype),
          random_normal({c.B, c.S, c.G, c.V}, 3, dtype)};
}

std::vector<Tensor> run_both_ways(const Softmax& c, const std::vector<Tensor>& in) {
  const Var q(in[kQ], true), k(in[kK], true), v(in[kV], true);
  const Var o = softmax_attention(q, k, v, c.scale, c.first, c.window);
  backward(o, random_normal(o.shape(), 6, o.dtype()));
  return {o.value(), q.grad(), k.grad(), v.grad()};
}

TEST_F(Attention, softmax_agrees_with_the_reference) {
  std::vector<Softmax> cases;
  for (int64_t T : {1, 2, 63, 64, 65, 200}) cases.push_back({.T = T, .S = T});
  for (int64_t G : {1, 4}) cases.push_back({.G = G});
  const std::pair<int64_t, int64_t> widths[] = {{1, 1}, {6, 5}, {16, 33}, {64, 17}, {128, 64}};
  for (auto [K, V] : widths) cases.push_back({.K = K, .V = V, .scale = 1 / std::sqrt(double(K))});
  cases.push_back({.T = 1, .S = 300, .H = 6, .G = 1, .first = {299, 17}});
  cases.push_back({.T = 70, .S = 210, .first = {140, 3}});
  for (int64_t window : {2, 3, 64, 100, 300}) {
    cases.push_back({.T = 200, .S = 210, .first = {10, 3}, .window = window});
    cases.push_back({.T = 1, .S = 300, .H = 6, .G = 2, .first = {299, 17}, .window = window});
  }
  for (const Softmax& c : cases) {
    const std::vector<Tensor> reference = run_both_ways(c, make_inputs(c, Dtype::f64));
    at_every_level([&](const std::string& level) {
      const std::vector<Tensor> given = run_both_ways(c, make_inputs(c));
      for (size_t i = 0; i < given.size(); i++) {
        expect_close(given[i], reference[i], level + ", " + c.name() + ", " + kSoftmaxNames[i]);
      }
    });
  }
}

TEST_F(Attention, softmax_gradients_agree_with_central_differences) {
  for (int64_t window : {0, 2}) {
    const Softmax c = {.T = 4, .S = 7, .K = 3, .V = 2, .first = {3, 1}, .window = window};
    auto fn = [&](const std::vector<Var>& in) -> std::vector<Var> {
      return {softmax_attention(in[0], in[1], in[2], c.scale, c.first, c.window)};
    };
    EXPECT_EQ(gradcheck(fn, make_inputs(c, Dtype::f64)), "");
  }
}

TEST_F(Attention, softmax_with_a_cache_gives_what_one_pass_gives) {
  const Softmax c = {.T = 140, .S = 140};
  at_every_level([&](const std::string& level) {
    const std::vector<Tensor> in = make_inputs(c);
    const Tensor whole = softmax_attention(Var(in[kQ]), Var(in[kK]), Var(in[kV]), c.scale, c.first).value();
    Tensor o;
    for (int64_t begin = 0, end; begin < c.T; begin = end) {
      end = std::min(c.T, begin + (begin < 64 ? 64 : begin < 100 ? 1 : 33));
      // what the cache will hold later is poison now
      Tensor k = in[kK].clone(), v = in[kV].clone();
      for (int64_t b = 0; b < c.B; b++) {
        k.rows(b, b + 1).view({c.S, -1}).rows(end, c.S).fill(NAN);
        v.rows(b, b + 1).view({c.S, -1}).rows(end, c.S).fill(NAN);
      }
      const Tensor y =
          softmax_attention(Var(steps(in[kQ], begin, end)), Var(k), Var(v), c.scale, {begin, begin}).value();
      o = o.defined() ? join(o, y) : y;
    }
    expect_close(o, whole, level);
  });
}

TEST_F(Attention, softmax_has_the_same_bits_for_any_thread_count_and_reads_no_fresh_memory) {
  for (const Softmax& c : {Softmax{.B = 3, .T = 150, .S = 160, .first = {0, 10, 7}},
                           Softmax{.T = 1, .S = 40, .K = 5, .V = 19, .first = {39, 0}}}) {
    at_every_level([&](const std::string& level) {
      set_threads(1);
      const std::vector<Tensor> first = run_both_ways(c, make_inputs(c));
      set_poison(true);
      for (int count : {1, 2, 3}) {
        set_threads(count);
        const std::vector<Tensor> again = run_both_ways(c, make_inputs(c));
        for (size_t i = 0; i < first.size(); i++) {
          EXPECT_TRUE(same_bits(again[i], first[i]))
              << level << ", " << count << " threads, " << kSoftmaxNames[i];
        }
      }
      set_poison(false);
    });
  }
}

// Scores in the hundreds: e^score alone would overflow.
TEST_F(Attention, softmax_stands_large_scores) {
  const Softmax c = {.T = 130, .S = 130, .scale = 60};
  const Tensor reference = run_both_ways(c, make_inputs(c, Dtype::f64))[0];
  at_every_level([&](const std::string& level) {
    const std::vector<Tensor> given = run_both_ways(c, make_inputs(c));
    for (const Tensor& t : given) EXPECT_TRUE(all_finite(t)) << level;
    // a score of 500 is rounded to 3e-5
    expect_close(given[0], reference, level, 100);
  });
}

TEST_F(Attention, softmax_says_what_does_not_fit) {
  const Softmax c;
  const std::vector<Tensor> in = make_inputs(c);
  auto run = [&](const Tensor& k, const Tensor& v, const std::vector<int64_t>& first) {
    return softmax_attention(Var(in[kQ]), Var(k), Var(v), 1, first);
  };
  EXPECT_THROW(run(in[kK], in[kV], {0}), Error);
  EXPECT_THROW(run(in[kK], in[kV], {0, 1}), Error) << "one key too few";
  EXPECT_THROW(run(in[kK], in[kV], {0, -1}), Error);
  EXPECT_THROW(run(in[kK], steps(in[kV], 0, 64), {0, 0}), Error);
  EXPECT_THROW(run(Tensor::zeros({2, 65, 3, 8}), Tensor::zeros({2, 65, 3, 8}), {0, 0}), Error);
}

}  // namespace
}  // namespace supra
