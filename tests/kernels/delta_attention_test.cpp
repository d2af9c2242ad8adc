#include <gtest/gtest.h>

#include <functional>

#include "kernels/ops.h"
#include "tests/support.h"

// The gated delta rule. The truth is the f64 reference, the plain recurrence; that it is one, gradient checks of the table of
// operations say (tests/kernels/ops_test.cpp). Here is what the table cannot: lengths and widths around chunks, extreme gates, long
// sequences, splits and steps.

namespace supra {
namespace {

class Delta : public testing::Test {
  RestoreMachine restore_;
};

struct Case {
  int64_t B = 2, T = 65, H = 4, Gk = 4, Gv = 4, K = 8, V = 8;
  double steepest = 0.5;     // log decays lie between 0 and -steepest, in the first head all are 0
  double beta = -1;          // of all steps; negative: uniform in [0, 1]
  bool one_sided = false;    // keys of positive numbers, which are all alike
  std::vector<int64_t> lengths = {};
  Cuts cuts = {};

  std::string name() const {
    return format("T%ld K%ld V%ld Gk%ld Gv%ld, log decay %g, beta %g", long(T), long(K), long(V), long(Gk), long(Gv), -steepest, beta);
  }
};

enum { kQ, kK, kV, kLogDecay, kBeta, kState };
const char* const kNames[] = {"o", "last state", "dq", "dk", "dv", "dlog_decay", "dbeta", "dstate"};

std::vector<Tensor> make_inputs(const Case& c, Dtype dtype = Dtype::f32) {
  std::vector<Tensor> in = {random_normal({c.B, c.T, c.H, c.K}, 1),  random_normal({c.B, c.T, c.Gk, c.K}, 2),
                            random_normal({c.B, c.T, c.Gv, c.V}, 3), Tensor::empty({c.B, c.T, c.H}),
                            Tensor::empty({c.B, c.T, c.H}),          random_normal({c.B, c.H, c.K, c.V}, 4)};
  // keys of length 1
  for (int64_t i = 0; i < in[kK].numel(); i += c.K) {
    float* k = in[kK].data<float>() + i;
    double squares = 0;
    for (int64_t j = 0; j < c.K; j++) squares += double{k[j]} * k[j];
    for (int64_t j = 0; j < c.K; j++) k[j] = static_cast<float>((c.one_sided ? std::fabs(k[j]) : k[j]) / std::sqrt(squares));
  }
  Philox random(5);
  for (int64_t i = 0; i < in[kBeta].numel(); i++) {
    in[kLogDecay].data<float>()[i] = i % c.H == 0 ? 0 : static_cast<float>(-c.steepest * random.uniform());
    in[kBeta].data<float>()[i] = static_cast<float>(c.beta < 0 ? random.uniform() : c.beta);
  }
  for (Tensor& t : in) t = t.to(dtype);
  return in;
}

template <class Inputs>
LinearAttention run(const Case& c, const Inputs& in) {
  const auto var = [&](int i) { return Var(in[i]); };
  return delta_attention(var(kQ), var(kK), var(kV), var(kLogDecay), var(kBeta), var(kState), c.lengths, c.cuts);
}

// o, the last state, and the gradients of all six inputs when both outputs count.
std::vector<Tensor> run_both_ways(const Case& c, const std::vector<Tensor>& in) {
  std::vector<Var> vars;
  for (const Tensor& t : in) vars.emplace_back(t, true);
  const LinearAttention y = run(c, vars);
  backward({y.o, y.state}, {random_normal(y.o.shape(), 6, y.o.dtype()), random_normal(y.state.shape(), 7, y.o.dtype())});
  std::vector<Tensor> results = {y.o.value(), y.state.value()};
  for (const Var& v : vars) results.push_back(v.grad());
  return results;
}

void at_every_level(const std::function<void(const std::string&)>& f) {
  for (CpuLevel level : cpu_levels()) {
    set_cpu_level(level);
    f(name(level));
  }
}

void expect_reference(const Case& c, const std::vector<Tensor>& in, double tolerance = 1) {
  std::vector<Tensor> wide;
  for (const Tensor& t : in) wide.push_back(t.to(Dtype::f64));
  const std::vector<Tensor> reference = run_both_ways(c, wide);
  at_every_level([&](const std::string& level) {
    const std::vector<Tensor> given = run_both_ways(c, in);
    for (size_t i = 0; i < given.size(); i++) expect_close(given[i], reference[i], level + ", " + c.name() + ", " + kNames[i], tolerance);
  });
}

// what is left of a state of one number is a product of 1 - beta of all steps, each of them rounded
void expect_reference(const Case& c) { expect_reference(c, make_inputs(c), c.K == 1 ? 2 : 1); }

TEST_F(Delta, agrees_with_the_recurrence_at_any_length) {
  for (int64_t T : {1, 2, 7, 8, 9, 31, 32, 33, 63, 64, 65, 130}) {
    Case c;
    c.T = T;
    expect_reference(c);
    c.B = 1, c.H = c.Gk = c.Gv = 2, c.K = 33, c.V = 32;
    expect_reference(c);
  }
}

TEST_F(Delta, agrees_with_the_recurrence_at_any_width_and_grouping) {
  Case c;
  c.B = 1, c.T = 97;
  for (auto [K, V] : {std::pair<int64_t, int64_t>{1, 1}, {6, 5}, {16, 33}, {64, 17}, {7, 128}, {128, 64}}) {
    c.K = K, c.V = V;
    expect_reference(c);
  }
  c.K = 8, c.V = 12;
  for (auto [Gk, Gv] : {std::pair<int64_t, int64_t>{4, 2}, {2, 4}, {2, 2}, {1, 4}}) {
    c.Gk = Gk, c.Gv = Gv;
    expect_reference(c);
  }
}

// Decays from 1 to 1e-3, of every head or of all but one, and every kind of beta; keys that are all alike are the hardest for a
// triangular solve.
TEST_F(Delta, stays_accurate_over_long_sequences) {
  for (bool one_sided : {false, true}) {
    for (double steepest : {0.0, 0.01, 6.9}) {
      for (double beta : {0.0, 0.5, 1.0, -1.0}) {
        Case c;
        c.B = 1, c.T = 4096, c.H = c.Gk = c.Gv = 2, c.K = c.V = 16;
        c.steepest = steepest, c.beta = beta, c.one_sided = one_sided;
        expect_reference(c);
      }
    }
  }
}

// Nothing overflows, and what is forgotten leaves no NaN behind. Where every decay is steep, its gradient is still exact.
TEST_F(Delta, stands_extreme_decays) {
  for (double log_decay : {-1e-4, -6.9, -40.0, -1e5, -1e30, -double{INFINITY}}) {
    for (bool everywhere : {false, true}) {
      Case c;
      c.T = 130, c.steepest = -log_decay;
      std::vector<Tensor> in = make_inputs(c);
      for (int64_t i = 0; i < in[kLogDecay].numel(); i++) {
        // mixed: one step in three of two heads in four
        const bool steep = everywhere || (i % 2 == 0 && i / c.H % 3 == 0);
        in[kLogDecay].data<float>()[i] = static_cast<float>(steep ? log_decay : -0.1);
      }
      expect_reference(c, in);
    }
  }
}

// f(x1); f(x2) == f(x1 x2), and so with x2 step by step
TEST_F(Delta, splits_and_steps_give_what_the_whole_gives) {
  for (auto [K, V] : {std::pair<int64_t, int64_t>{8, 11}, {64, 64}}) {
    Case c;
    c.T = 150, c.Gk = 2, c.Gv = 1, c.K = K, c.V = V;
    const std::vector<Tensor> in = make_inputs(c);
    at_every_level([&](const std::string& level) {
      const LinearAttention whole = run(c, in);
      for (int64_t cut : {0, 1, 63, 64, 100, 149, 150}) {
        const auto part = [&](int64_t begin, int64_t end, const Tensor& state) {
          std::vector<Tensor> piece;
          for (int i : {kQ, kK, kV, kLogDecay, kBeta}) piece.push_back(steps(in[i], begin, end));
          piece.push_back(state);
          return piece;
        };
        const std::string where = format("%s, cut at %ld", level.c_str(), long(cut));
        const LinearAttention left = run(c, part(0, cut, in[kState])), right = run(c, part(cut, c.T, left.state.value()));
        if (cut > 0) expect_close(left.o.value(), steps(whole.o.value(), 0, cut), where);
        if (cut < c.T) expect_close(right.o.value(), steps(whole.o.value(), cut, c.T), where);
        expect_close(right.state.value(), whole.state.value(), where);
        const Tensor state = left.state.value().clone();
        for (int64_t t = cut; t < c.T; t++) {
          const std::vector<Tensor> x = part(t, t + 1, state);
          const Tensor o = delta_attention_step(state, x[kQ], x[kK], x[kV], x[kLogDecay], x[kBeta]);
          expect_close(o, steps(whole.o.value(), t, t + 1), format("%s, step %ld", where.c_str(), long(t)), 2);
        }
        expect_close(state, whole.state.value(), where + ", steps");
      }
    });
  }
}

// What the delta rule is for: with beta = 1 and no decay, a state gives back the last value that was written to a key.
TEST_F(Delta, a_write_replaces_what_its_key_held) {
  Case c;
  c.B = 1, c.T = 96, c.H = c.Gk = c.Gv = 1, c.beta = 1, c.steepest = 0;
  std::vector<Tensor> in = make_inputs(c);
  for (int64_t t = 0; t < c.T; t++) {
    for (int64_t i = 0; i < c.K; i++) in[kQ].data<float>()[t * c.K + i] = in[kK].data<float>()[t * c.K + i] = i == t % c.K;
  }
  at_every_level([&](const std::string& level) {
    expect_close(run(c, in).o.value(), in[kV], level);
  });
}

// Rows of several lengths with several documents equal each document alone; what stands behind a row's end is poison.
TEST_F(Delta, rows_end_and_documents_begin_where_they_should) {
  Case c;
  c.B = 4, c.T = 140, c.Gv = 2, c.lengths = {140, 0, 77, 130}, c.cuts = {{1, 70, 139}, {}, {64}, {}};
  for (Dtype dtype : {Dtype::f32, Dtype::f64}) {
    std::vector<Tensor> in = make_inputs(c, dtype);
    for (int i : {kQ, kK, kV, kLogDecay, kBeta}) {
      for (int64_t b = 0; b < c.B; b++) in[i].rows(b, b + 1).view({c.T, -1}).rows(c.lengths[b], c.T).fill(NAN);
    }
    at_every_level([&](const std::string& level) {
      const std::vector<Tensor> together = run_both_ways(c, in);
      const Tensor seed = random_normal(together[0].shape(), 6, dtype), state_seed = random_normal(together[1].shape(), 7, dtype);
      for (int64_t b = 0; b < c.B; b++) {
        std::vector<int64_t> ends = c.cuts[b];
        ends.push_back(c.lengths[b]);
        for (size_t d = 0; d < ends.size(); d++) {
          const int64_t begin = d == 0 ? 0 : ends[d - 1], end = ends[d];
          const bool last = d + 1 == ends.size();
          std::vector<Var> alone;
          for (int i : {kQ, kK, kV, kLogDecay, kBeta}) alone.emplace_back(steps(in[i], begin, end, b), true);
          const Tensor state = in[kState].rows(b, b + 1);
          alone.emplace_back(d == 0 ? state : zeros_like(state), true);
          Case one = c;
          one.lengths = {}, one.cuts = {};
          const LinearAttention y = run(one, alone);
          backward({y.o, y.state},
                   {steps(seed, begin, end, b), last ? state_seed.rows(b, b + 1) : zeros_like(y.state.value())});
          const auto same = [&](int i, const Tensor& given, const Tensor& expected) {
            // bits but for the sign of a zero
            EXPECT_EQ(difference(given, expected).largest, 0) << level << ", row " << b << ", document " << d << ", " << kNames[i];
          };
          same(0, steps(together[0], begin, end, b), y.o.value());
          for (int i : {kQ, kK, kV, kLogDecay, kBeta}) same(2 + i, steps(together[2 + i], begin, end, b), alone[i].grad());
          if (last) same(1, together[1].rows(b, b + 1), y.state.value());
          if (d == 0) same(7, together[7].rows(b, b + 1), alone[kState].grad());
        }
        for (int i : {0, 2, 3, 4, 5, 6}) {
          const Tensor behind = steps(together[i], c.lengths[b], c.T, b);
          EXPECT_TRUE(same_bits(behind, zeros_like(behind))) << level << ", row " << b << ", behind the end of " << kNames[i];
        }
      }
    });
  }
}

TEST_F(Delta, says_what_does_not_fit) {
  const Case c;
  const std::vector<Tensor> in = make_inputs(c);
  const auto with = [&](int i, const Tensor& t) {
    std::vector<Tensor> changed = in;
    changed[i] = t;
    return run(c, changed);
  };
  EXPECT_THROW(with(kK, Tensor::zeros({2, 65, 3, 8})), Error) << "4 query heads, 3 key heads";
  EXPECT_THROW(with(kV, Tensor::zeros({2, 65, 32})), Error);
  EXPECT_THROW(with(kLogDecay, Tensor::zeros({4})), Error) << "a decay by head alone";
  EXPECT_THROW(with(kBeta, Tensor::zeros({2, 65, 3})), Error);
  EXPECT_THROW(with(kState, Tensor::zeros({2, 4, 8, 7})), Error);
  EXPECT_THROW(delta_attention_step(in[kState], in[kQ], in[kK], in[kV], in[kLogDecay], in[kBeta]), Error) << "65 steps";
}

}  // namespace
}  // namespace supra
