#include "tests/gpu/cuda_support.h"

// The gated delta rule on the GPU: what the table of operations cannot say. The solve for what is written, its reverse and all
// sweeps of the gradients, with tensor cores and without.

namespace supra {
namespace {

struct Rule {
  int64_t B = 1, T = 70, H = 2, Gk = 2, Gv = 2, K = 8, V = 8;
  double steepest = 0.5;  // log decays lie between 0 and -steepest, in the first head all are 0
  double beta = -1;       // of all steps; negative: uniform in [0, 1]
  std::vector<int64_t> lengths = {};
  Cuts cuts = {};

  std::string name() const {
    return format("B%ld T%ld H%ld Gk%ld Gv%ld K%ld V%ld, log decay %g, beta %g", long(B), long(T), long(H), long(Gk), long(Gv), long(K),
                  long(V), -steepest, beta);
  }
};

enum { kQ, kK, kV, kLogDecay, kBeta, kState };
constexpr const char* kNames[] = {"o", "last state", "dq", "dk", "dv", "dlog_decay", "dbeta", "dstate"};

// Keys are about 1 long. Decays and beta stay f32.
std::vector<Tensor> make_inputs(const Rule& c, Dtype dtype) {
  std::vector<Tensor> in = {random_normal({c.B, c.T, c.H, c.K}, 1, dtype),  random_normal({c.B, c.T, c.Gk, c.K}, 2),
                            random_normal({c.B, c.T, c.Gv, c.V}, 3, dtype), Tensor::empty({c.B, c.T, c.H}),
                            Tensor::empty({c.B, c.T, c.H}),                 random_normal({c.B, c.H, c.K, c.V}, 4)};
  in[kK] = scale(Var(in[kK]), 1 / std::sqrt(static_cast<double>(c.K))).value().to(dtype);
  Philox random(5);
  for (int64_t i = 0; i < in[kBeta].numel(); i++) {
    in[kLogDecay].data<float>()[i] = i % c.H == 0 ? 0 : static_cast<float>(-c.steepest * random.uniform());
    in[kBeta].data<float>()[i] = static_cast<float>(c.beta < 0 ? random.uniform() : c.beta);
  }
  return in;
}

template <class Move>
Results run(const Rule& c, const std::vector<Tensor>& in, Move move) {
  std::vector<Var> x;
  for (const Tensor& t : in) x.emplace_back(move(t), true);
  const LinearAttention y = delta_attention(x[kQ], x[kK], x[kV], x[kLogDecay], x[kBeta], x[kState], c.lengths, c.cuts);
  const Dtype dtype = in[kQ].dtype();
  backward({y.o, y.state}, {move(random_normal(y.o.shape(), 6, dtype)), move(random_normal(y.state.shape(), 7))});
  Results all = {y.o.value(), y.state.value()};
  for (const Var& v : x) all.push_back(v.grad());
  return all;
}

// In bf16 what is written and its gradient are rounded before others are made of them; the decays' gradient is a sum of
// differences besides.
template <class T>
void check(const Rule& c, double more = 1) {
  SCOPED_TRACE(std::string(name(dtype_of<T>())) + " " + c.name());
  const std::vector<Tensor> in = make_inputs(c, dtype_of<T>());
  const Results truth = run(c, in, [](const Tensor& t) { return t.to(Dtype::f64); });
  const Results got = on_gpu([&] { return run(c, in, gpu); });
  for (size_t i = 0; i < got.size(); i++)
    expect_close(got[i], truth[i], kNames[i], more * tolerance<T>() * (dtype_of<T>() == Dtype::f32 ? 1 : i == 5 ? 4 : 2));
}

}  // namespace

TEST_F(Cuda, delta_attention_in_chunks) {
  const Rule one = {.T = 1}, odd = {.B = 2, .T = 33, .H = 4, .Gk = 2, .Gv = 1, .K = 7, .V = 35};
  const Rule ragged = {.B = 2, .T = 40, .K = 34, .V = 32, .lengths = {33, 0}};
  const Rule packed = {.B = 2, .T = 70, .H = 4, .Gk = 1, .Gv = 2, .lengths = {70, 66}, .cuts = {{1, 33, 34}, {64}}};
  const Rule strongest = {.T = 34, .steepest = INFINITY}, adds_nothing = {.beta = 0}, replaces = {.beta = 1};
  for (const Rule& c : {Rule{}, one, odd, ragged, packed, strongest, adds_nothing, replaces}) {
    check<float>(c);
    check<Bf16>(c);
  }
}

TEST_F(Cuda, delta_attention_on_tensor_cores) {
  check<Bf16>({.T = 130, .K = 64, .V = 64});
  check<Bf16>({.B = 2, .T = 70, .Gk = 1, .Gv = 1, .K = 64, .V = 128, .lengths = {66, 3}});
  check<Bf16>({.T = 65, .K = 128, .V = 64, .steepest = INFINITY});
  check<Bf16>({.T = 67, .H = 1, .Gk = 1, .Gv = 1, .K = 128, .V = 128, .beta = 1});
  check<Bf16>({.T = 140, .K = 64, .V = 64, .steepest = 6.9, .lengths = {137}, .cuts = {{5, 70}}});
}

#if !defined(SUPRA_CUDA)
TEST_F(Cuda, delta_attention_on_a_card_of_less_shared_memory) {
  const Rule c = {.T = 66, .H = 1, .Gk = 1, .Gv = 1, .K = 128, .V = 128};
  const std::vector<Tensor> in = make_inputs(c, Dtype::bf16);
  expect_same_bits_with_less_shared_memory([&] { return run(c, in, gpu); }, kNames);
}
#endif

// Gradients are sums over all steps that follow.
TEST_F(Cuda, delta_attention_over_many_chunks) {
  const double longer = 4;
  for (double beta : {0.5, 1.0}) {
    check<float>({.T = 1025, .H = 1, .Gk = 1, .Gv = 1, .K = 16, .V = 16, .steepest = 0, .beta = beta}, longer);
    check<float>({.T = 1025, .K = 16, .V = 16, .steepest = 6.9, .beta = beta}, longer);
  }
}

// What stands behind a row's end is not looked at, and gets no gradient.
TEST_F(Cuda, delta_attention_of_rows_that_end) {
  for (int64_t width : {8, 64}) {
    Rule c = {.B = 2, .T = 40, .K = width, .V = width, .lengths = {33, 0}};
    std::vector<Tensor> in = make_inputs(c, Dtype::bf16);
    for (int i : {kQ, kK, kV, kLogDecay, kBeta}) {
      for (int64_t b = 0; b < c.B; b++) in[i].rows(b, b + 1).view({c.T, -1}).rows(c.lengths[b], c.T).fill(NAN);
    }
    const Results got = on_gpu([&] { return run(c, in, gpu); });
    for (int i : {0, 2, 3, 4, 5, 6}) {
      for (int64_t b = 0; b < c.B; b++) {
        const Tensor behind = steps(got[i], c.lengths[b], c.T, b);
        EXPECT_TRUE(same_bits(behind, zeros_like(behind))) << kNames[i] << " of row " << b;
      }
      EXPECT_TRUE(all_finite(got[i])) << kNames[i];
    }
  }
}

TEST_F(Cuda, delta_attention_step) {
  for (const Rule& c : {Rule{}, Rule{.B = 2, .H = 4, .Gk = 2, .Gv = 1, .K = 5, .V = 3}, Rule{.K = 64, .V = 64},
                        Rule{.K = 9, .V = 140, .steepest = INFINITY}, Rule{.B = 3, .K = 33, .V = 129, .beta = 1}}) {
    for (Dtype dtype : {Dtype::f32, Dtype::bf16}) {
      SCOPED_TRACE(std::string(name(dtype)) + " " + c.name());
      Rule one = c;
      one.T = 1;
      const std::vector<Tensor> in = make_inputs(one, dtype);
      const auto wide = [&](int i) { return Var(in[i].to(Dtype::f64)); };
      const LinearAttention truth = delta_attention(wide(kQ), wide(kK), wide(kV), wide(kLogDecay), wide(kBeta), wide(kState));
      const Results got = on_gpu([&] {
        const Tensor state = gpu(in[kState]).clone();
        const Tensor o = delta_attention_step(state, gpu(in[kQ]), gpu(in[kK]), gpu(in[kV]), gpu(in[kLogDecay]), gpu(in[kBeta]));
        return Results{o, state};
      });
      expect_close(got[0], truth.o.value(), "o", dtype == Dtype::f32 ? 1 : kBf16);
      expect_close(got[1], truth.state.value(), "state");
    }
  }
}

}  // namespace supra
