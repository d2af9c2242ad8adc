#include "tests/gpu/cuda_support.h"

// Linear attention on the GPU: the op and all its gradients, by tensor cores where they fit and without.

namespace supra {
namespace {

struct Linear {
  int64_t B = 2, T = 65, H = 2, Gk = 2, Gv = 2, K = 8, V = 8;
  bool decay_by_token = false, with_state = true;
  std::vector<int64_t> lengths = {};
  Cuts cuts = {};
  double norm_eps = 0, steepest = 0.7;
  Features features = {};

  std::string name() const {
    return format("B%ld T%ld H%ld Gk%ld Gv%ld K%ld V%ld %s decay up to %g, norm %g", long(B), long(T),
                  long(H), long(Gk), long(Gv), long(K), long(V), decay_by_token ? "token" : "head", steepest,
                  norm_eps);
  }
};

// q, k, v, log_decay, state (or none), and the gradients of both outputs. The first head does not decay.
struct LinearTensors {
  Tensor q, k, v, log_decay, state, d_o, d_last;

  LinearTensors(const Linear& c, Dtype dtype)
      : q(random_normal({c.B, c.T, c.H, c.K}, 1, dtype)),
        k(random_normal({c.B, c.T, c.Gk, c.K}, 2, dtype)),
        v(random_normal({c.B, c.T, c.Gv, c.V}, 3, dtype)),
        log_decay(Tensor::zeros(c.decay_by_token ? Shape{c.B, c.T, c.H} : Shape{c.H})),
        d_o(random_normal({c.B, c.T, c.H, c.V}, 6, dtype)) {
    if (c.with_state)
      state = random_normal({c.B, c.H, c.K, c.V}, 4), d_last = random_normal(state.shape(), 7);
    if (c.features.of_relu) q = relu(Var(q.to(Dtype::f32))).value().to(dtype), k = relu(Var(k.to(Dtype::f32))).value().to(dtype);
    Philox random(5);
    for (int64_t i = 0; i < log_decay.numel(); i++) {
      const double strength = c.decay_by_token ? random.uniform() : 1, h = double(i % c.H);
      log_decay.data<float>()[i] =
          h == 0 ? 0 : static_cast<float>(-c.steepest * strength * h / double(c.H - 1));
    }
  }
};

// o, the last state, and the gradients of q, k, v, log_decay and, where there is one, the state. apart: features by
// their own ops.
template <class Move>
Results run(const Linear& c, const LinearTensors& in, Move move, bool apart = false) {
  const auto variable = [&](const Tensor& t) { return t.defined() ? Var(move(t), true) : Var(); };
  const Var q = variable(in.q), k = variable(in.k), v = variable(in.v), log_decay = variable(in.log_decay),
            state = variable(in.state);
  const auto feature = [&](const Var& x) {
    return rope(c.features.of_relu ? relu_slope(x) : x, c.features.rope, c.features.first, c.cuts);
  };
  const LinearAttention y =
      apart ? linear_attention(feature(q), feature(k), v, log_decay, 0.4, state, c.lengths, c.norm_eps, c.cuts)
            : linear_attention(q, k, v, log_decay, 0.4, state, c.lengths, c.norm_eps, c.cuts, c.features);
  if (in.d_last.defined())
    backward({y.o, y.state}, {move(in.d_o), move(in.d_last)});
  else
    backward(y.o, move(in.d_o));
  Results all = {y.o.value(), y.state.value(), q.grad(), k.grad(), v.grad(), log_decay.grad()};
  if (in.state.defined()) all.push_back(state.grad());
  return all;
}

Features before(const Rope& rope, const std::vector<int64_t>& first, bool of_relu) {
  Features features;
  features.rope = rope, features.first = first, features.of_relu = of_relu;
  return features;
}

constexpr const char* kNames[] = {"o", "last state", "dq", "dk", "dv", "dlog_decay", "dstate"};

// A norm rounds y and the gradient before it once more each, and takes the largest part out of the latter; the
// decays' gradient is a sum of differences.
template <class T>
double tolerance_of(const Linear& c, size_t result) {
  const bool rounded = dtype_of<T>() == Dtype::bf16 && ((c.norm_eps > 0 && result > 1) || result == 5);
  return tolerance<T>() * (rounded ? 3 : 1);
}

template <class T>
void check(const Linear& c) {
  SCOPED_TRACE(std::string(name(dtype_of<T>())) + " " + c.name());
  const LinearTensors in(c, dtype_of<T>());
  const Results truth = run(c, in, [](const Tensor& t) { return t.to(Dtype::f64); });
  const Results got = on_gpu([&] { return run(c, in, gpu); });
  EXPECT_EQ(got.size(), truth.size());
  for (size_t i = 0; i < got.size(); i++) expect_close(got[i], truth[i], kNames[i], tolerance_of<T>(c, i));
}

}  // namespace

TEST_F(Cuda, linear_attention_in_chunks) {
  const Linear one = {.T = 1, .with_state = false};
  const Linear odd = {.B = 1, .T = 33, .H = 4, .Gk = 2, .Gv = 1, .K = 7, .V = 35};
  const Linear ragged = {.T = 40, .K = 34, .V = 32, .decay_by_token = true, .lengths = {33, 0}};
  const Linear packed = {.T = 70,
                         .H = 4,
                         .Gk = 1,
                         .Gv = 2,
                         .decay_by_token = true,
                         .lengths = {70, 66},
                         .cuts = {{1, 33, 34}, {64}},
                         .norm_eps = 1e-5};
  const Linear strongest = {.T = 34, .decay_by_token = true, .steepest = INFINITY};
  const Linear strongest_head = {.T = 34, .steepest = 1000};
  for (const Linear& c : {Linear{}, one, odd, ragged, packed, strongest, strongest_head}) {
    check<float>(c);
    check<Bf16>(c);
  }
}

TEST_F(Cuda, linear_attention_on_tensor_cores) {
  check<Bf16>({.B = 1, .T = 130, .K = 64, .V = 64});
  check<Bf16>(
      {.T = 70, .H = 2, .Gk = 1, .Gv = 1, .K = 64, .V = 128, .decay_by_token = true, .lengths = {66, 3}});
  check<Bf16>({.B = 1, .T = 63, .K = 128, .V = 64, .with_state = false, .norm_eps = 1e-5});
  check<Bf16>({.B = 1, .T = 65, .K = 128, .V = 128, .decay_by_token = true, .steepest = INFINITY});
  check<Bf16>({.B = 1, .T = 140, .K = 64, .V = 64, .lengths = {137}, .cuts = {{5, 70}}, .norm_eps = 1e-5});
}

// RoPE and relu's slope within the kernels give the bits of the ops; only where heads share a k are its gradients
// turned before they are added up.
TEST_F(Cuda, linear_attention_with_rope_and_relu_inside) {
  using enum Rope::Layout;
  const Rope part = {.layout = half, .base = 500, .scale = 2, .dims = 32, .divisors = {}, .magnitude = 1.1};
  const Linear plain = {.B = 1, .T = 70, .K = 64, .V = 64, .norm_eps = 1e-5, .features = before({.layout = half}, {5}, true)};
  const Linear wide = {.T = 65, .Gk = 1, .Gv = 1, .K = 128, .V = 64, .features = before(part, {3, 90}, true)};
  const Linear gated = {.B = 1, .T = 66, .K = 64, .V = 128, .decay_by_token = true, .cuts = {{5, 64}},
                        .features = before({.layout = interleaved, .dims = 48}, {0}, false)};
  const Linear gated_half = {.B = 1, .T = 40, .K = 64, .V = 64, .decay_by_token = true, .features = before(part, {0}, true)};
  const Linear by_heads = {.T = 33, .K = 128, .V = 128, .features = before({.layout = by_head}, {0, 4}, true)};
  const Linear cut = {.B = 1, .T = 257, .K = 64, .V = 64, .features = before({.layout = half}, {0}, true)};
  // by their own ops: heads of one k turn apart, pieces of eight columns do not fit
  const Linear shared = {.T = 33, .Gk = 1, .K = 64, .V = 64, .features = before({.layout = by_head}, {0, 0}, true)};
  const Linear odd = {.T = 33, .K = 64, .V = 64, .features = before({.layout = half, .dims = 8}, {0, 1}, true)};
  for (const Linear& c : {plain, wide, gated, gated_half, by_heads, cut, shared, odd}) {
    check<Bf16>(c);
    const LinearTensors in(c, Dtype::bf16);
    const Results apart = on_gpu([&] { return run(c, in, gpu, true); });
    const Results inside = on_gpu([&] { return run(c, in, gpu); });
    for (size_t i = 0; i < apart.size(); i++) {
      const bool added_up = i == 3 && c.Gk < c.H;
      EXPECT_TRUE(added_up || same_bits(inside[i], apart[i])) << c.name() << ", " << kNames[i];
    }
  }
  Linear ragged = wide;
  ragged.lengths = {65, 9};
  check<Bf16>(ragged);
  check<float>(ragged);
}

// Few heads and many steps: more blocks than heads work, each on its part of the steps.
TEST_F(Cuda, linear_attention_in_segments) {
  const Linear packed = {.B = 1,
                         .T = 200,
                         .H = 2,
                         .Gk = 1,
                         .Gv = 1,
                         .K = 9,
                         .V = 5,
                         .decay_by_token = true,
                         .lengths = {190},
                         .cuts = {{40}}};
  check<float>({.T = 200, .K = 9, .V = 40, .norm_eps = 1e-5});
  check<float>(packed);
  check<Bf16>({.B = 1, .T = 257, .K = 64, .V = 64, .decay_by_token = true});
}

#if !defined(SUPRA_CUDA)
TEST_F(Cuda, linear_attention_on_a_card_of_less_shared_memory) {
  const Linear c = {.B = 1, .T = 66, .H = 1, .Gk = 1, .Gv = 1, .K = 128, .V = 128, .norm_eps = 1e-5};
  const LinearTensors in(c, Dtype::bf16);
  expect_same_bits_with_less_shared_memory([&] { return run(c, in, gpu); }, kNames);
}
#endif

TEST_F(Cuda, features_of_zero_give_zero) {
  for (double norm_eps : {0.0, 1e-5}) {
    for (int64_t width : {8, 64}) {
      const Linear c = {.K = width, .V = width, .with_state = false, .norm_eps = norm_eps};
      LinearTensors in(c, Dtype::bf16);
      in.q.fill(0), in.k.fill(0);
      const Results got = on_gpu([&] { return run(c, in, gpu); });
      for (size_t i : {0, 1, 4}) {
        EXPECT_TRUE(same_bits(got[i], Tensor::zeros(got[i].shape(), got[i].dtype()))) << kNames[i];
      }
      EXPECT_TRUE(all_finite(got[2]) && all_finite(got[3]) && all_finite(got[5]));
    }
  }
}

namespace {

// x (B,T,G,D) -> (B*T, G*D + 8), the last columns NaN
Tensor spread(const Tensor& x) {
  const int64_t tokens = x.dim(0) * x.dim(1), width = x.dim(2) * x.dim(3);
  const Tensor wide = Tensor::full({tokens, width + 8}, NAN, x.dtype());
  for (int64_t i = 0; i < tokens; i++)
    wide.rows(i, i + 1).view({-1}).rows(0, width).copy_from(x.view({tokens, width}).rows(i, i + 1));
  return wide;
}

}  // namespace

// The kernels take q, k and v out of one wider matrix.
TEST_F(Cuda, linear_attention_of_columns) {
  for (int64_t width : {7, 64}) {
    const Linear c = {.T = 40, .H = 4, .Gk = 2, .Gv = 1, .K = width, .V = width, .with_state = false};
    const LinearTensors in(c, Dtype::bf16);
    const Results expected = on_gpu([&] { return run(c, in, gpu); });
    const Results got = on_gpu([&] {
      const Tensor q = gpu(spread(in.q)), k = gpu(spread(in.k)), v = gpu(spread(in.v)),
                   decay = gpu(in.log_decay);
      const cuda::LinearAttentionInputs<Bf16> there = {
          at<Bf16>(q), at<Bf16>(k),
          at<Bf16>(v), at<float>(decay),
          nullptr,     nullptr,
          c.B,         {c.B, c.T, c.H, c.Gk, c.Gv, c.K, c.V, q.dim(1), k.dim(1), v.dim(1), false, 0.4f}};
      Results all;
      for (const Tensor& t : expected) all.push_back(gpu_empty(t.shape(), t.dtype()));
      cuda::linear_attention_fwd<Bf16>(at<Bf16>(all[0]), nullptr, at<float>(all[1]), there, 0);
      const Tensor d_o = gpu(in.d_o);
      cuda::linear_attention_bwd<Bf16>(
          {at<Bf16>(all[2]), at<Bf16>(all[3]), at<Bf16>(all[4]), nullptr, at<float>(all[5])}, at<Bf16>(d_o),
          nullptr, nullptr, nullptr, at<float>(all[1]), there);
      return all;
    });
    for (size_t i = 0; i < got.size(); i++) EXPECT_TRUE(same_bits(got[i], expected[i])) << kNames[i];
  }
}

namespace {

template <class T>
void check_step(Linear c) {
  c.T = 1;
  SCOPED_TRACE(std::string(name(dtype_of<T>())) + " " + c.name());
  const LinearTensors in(c, dtype_of<T>());
  const auto wide = [](const Tensor& t) { return Var(t.to(Dtype::f64)); };
  const LinearAttention truth =
      linear_attention(wide(in.q), wide(in.k), wide(in.v), wide(in.log_decay), 0.4, wide(in.state));
  const Results got = on_gpu([&] {
    const Tensor state = gpu(in.state).clone();
    const Tensor o = linear_attention_step(state, gpu(in.q), gpu(in.k), gpu(in.v), gpu(in.log_decay), 0.4);
    return Results{o, state};
  });
  expect_close(got[0], truth.o.value(), "o", tolerance<T>());
  expect_close(got[1], truth.state.value(), "state");
}

}  // namespace

TEST_F(Cuda, linear_attention_step) {
  for (const Linear& c : {Linear{}, Linear{.H = 4, .Gk = 2, .Gv = 1, .K = 5, .V = 3, .decay_by_token = true},
                          Linear{.K = 64, .V = 64}, Linear{.B = 1, .K = 9, .V = 140, .steepest = INFINITY},
                          Linear{.K = 33, .V = 129}}) {
    check_step<float>(c);
    check_step<Bf16>(c);
  }
}

// As if each head had the state to itself.
TEST_F(Cuda, linear_attention_steps_may_share_a_state) {
  const Shape of_keys = {2, 1, 2, 5};
  const Tensor q = random_normal({2, 1, 6, 5}, 1), k = random_normal(of_keys, 2), v = random_normal({2, 1, 2, 37}, 3),
               state = random_normal({2, 2, 5, 37}, 4), no_decay = Tensor::zeros({6});
  const auto run = [&](Device device) {
    const Tensor kept = state.to(device).clone();
    const Tensor o = linear_attention_step(kept, q.to(device), k.to(device), v.to(device), no_decay.to(device), 0.4);
    return Results{o, kept};
  };
  const Results truth = run(Device::cpu), got = on_gpu([&] { return run(Device::cuda); });
  for (size_t i = 0; i < got.size(); i++) expect_close(got[i], truth[i], i == 0 ? "o" : "state");
}

}  // namespace supra
