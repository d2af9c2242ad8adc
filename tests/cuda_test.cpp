#include "tests/cuda_support.h"

namespace supra {

TEST_F(Cuda, copies_come_back_as_they_went) {
  const Tensor x = random_normal({3, 5}, 1);
  const Tensor there = gpu(x);
  EXPECT_EQ(there.device(), Device::cuda);
  EXPECT_TRUE(same_bits(there.to(Device::cpu), x));
  EXPECT_TRUE(same_bits(there.clone().to(Device::cpu), x));
  EXPECT_TRUE(same_bits(there.rows(1, 2).to(Device::cpu), x.rows(1, 2).clone()));
  EXPECT_EQ(there.view({15}).rows(7, 8).item(), x.data<float>()[7]);
  EXPECT_TRUE(same_bits(Tensor::zeros({7}, Dtype::bf16, Device::cuda).to(Device::cpu),
                        Tensor::zeros({7}, Dtype::bf16)));
  EXPECT_TRUE(
      same_bits(Tensor::full({7}, 3, Dtype::f32, Device::cuda).to(Device::cpu), Tensor::full({7}, 3)));
  EXPECT_EQ(gpu(Tensor::empty({0, 4})).to(Device::cpu).shape(), (Shape{0, 4}));
  EXPECT_TRUE(std::isnan(gpu_empty({9}).to(Device::cpu).data<float>()[8]));
}

TEST_F(Cuda, memory_is_counted_and_given_back) {
  const MemoryStats cpu = memory_stats(), before = memory_stats(Device::cuda);
  {
    const Tensor x = gpu_empty({1000});
    EXPECT_EQ(memory_stats(Device::cuda).current, before.current + 4000);
    EXPECT_EQ(memory_stats().current, cpu.current);
  }
  EXPECT_EQ(memory_stats(Device::cuda).current, before.current);
  EXPECT_GE(memory_stats(Device::cuda).peak, before.current + 4000);
}

TEST_F(Cuda, a_stream_of_ones_own_does_the_same) {
  const Tensor x = random_normal({64}, 1), on_default = gpu(x);
  const cuda::Stream::Handle first = cuda::current_stream();
  const cuda::Stream stream;
  {
    const cuda::StreamScope scope(stream);
    EXPECT_EQ(cuda::current_stream(), stream.handle());
    cuda::wait_for(first);
    EXPECT_TRUE(same_bits(on_default.clone().to(Device::cpu), x));
    cuda::synchronize();
  }
  EXPECT_EQ(cuda::current_stream(), first);
}

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_F(Cuda, the_cpu_does_not_read_the_gpus_memory) {
  const Tensor x = gpu(random_normal({2, 3}, 1));
  EXPECT_EQ(
      message_of([&] { x.data<float>(); }),
      "a tensor of shape (2, 3) lies on the device cuda, code for cpu was to use it (move it with to())");
  EXPECT_EQ(
      message_of([&] { x.to(Device::cpu).data<float>(Device::cuda); }),
      "a tensor of shape (2, 3) lies on the device cpu, code for cuda was to use it (move it with to())");
  EXPECT_NE(message_of([&] { x.to(Dtype::f64); }).find("works on f32 and bf16, f64 was given"), std::string::npos);
  const Var w(Tensor::full({3}, 1));
  EXPECT_EQ(message_of([&] {
              rmsnorm(Var(x), w, 1e-5);
            }).rfind("rmsnorm: a tensor of shape (3) lies on the device cpu", 0),
            0u);
  EXPECT_EQ(message_of([&] {
              rmsnorm(Var(gpu_empty({2, 3}, Dtype::f64)), w, 1e-5);
            }),
            "rmsnorm: works on f32 and bf16 on the GPU, f64 was given");
}

TEST_F(Cuda, no_rows_are_no_work) {
  const Var x(gpu_empty({0, 8}), true), w(gpu(Tensor::full({8}, 1)), true);
  backward(rmsnorm(x, w, 1e-5), gpu_empty({0, 8}));
  EXPECT_TRUE(same_bits(w.grad().to(Device::cpu), Tensor::zeros({8})));
}

namespace {

struct Linear {
  int64_t B = 2, T = 65, H = 2, Gk = 2, Gv = 2, K = 8, V = 8;
  bool decay_by_token = false, with_state = true;
  std::vector<int64_t> lengths = {};
  int64_t extra_columns = 0;  // between one token's q and the next one's
  double steepest = 0.7;

  std::string name() const {
    return format("B%ld T%ld H%ld Gk%ld Gv%ld K%ld V%ld %s decay up to %g", long(B), long(T), long(H),
                  long(Gk), long(Gv), long(K), long(V), decay_by_token ? "token" : "head", steepest);
  }
};

struct LinearInputs {
  Tensor q, k, v, log_decay, state;
};

// The first head does not decay.
LinearInputs make_inputs(const Linear& c, Dtype dtype) {
  LinearInputs in = {random_normal({c.B, c.T, c.H, c.K}, 1), random_normal({c.B, c.T, c.Gk, c.K}, 2),
                     random_normal({c.B, c.T, c.Gv, c.V}, 3),
                     Tensor::zeros(c.decay_by_token ? Shape{c.B, c.T, c.H} : Shape{c.H}), Tensor()};
  if (c.with_state) in.state = random_normal({c.B, c.H, c.K, c.V}, 4);
  Philox random(5);
  for (int64_t i = 0; i < in.log_decay.numel(); i++) {
    const double strength = c.decay_by_token ? random.uniform() : 1, h = double(i % c.H);
    in.log_decay.data<float>()[i] =
        h == 0 ? 0 : static_cast<float>(-c.steepest * strength * h / double(c.H - 1));
  }
  for (Tensor* t : {&in.q, &in.k, &in.v}) *t = t->to(dtype);
  return in;
}

LinearAttention reference(const Linear& c, const LinearInputs& in) {
  const auto wide = [](const Tensor& t) { return t.defined() ? Var(t.to(Dtype::f64)) : Var(); };
  return linear_attention(wide(in.q), wide(in.k), wide(in.v), wide(in.log_decay), 0.4, wide(in.state),
                          c.lengths);
}

// x (B,T,...) with columns of NaN after each token
Tensor spread(const Tensor& x, int64_t extra) {
  const int64_t tokens = x.dim(0) * x.dim(1), width = x.numel() / tokens;
  const Tensor wide = Tensor::full({tokens, width + extra}, NAN, x.dtype());
  for (int64_t i = 0; i < tokens; i++)
    wide.rows(i, i + 1).view({-1}).rows(0, width).copy_from(x.view({tokens, width}).rows(i, i + 1));
  return wide;
}

template <class T>
struct LinearOnGpu {
  Tensor q, k, v, log_decay, state, lengths;
  cuda::LinearAttentionInputs<T> in;

  LinearOnGpu(const Linear& c, const LinearInputs& host)
      : q(gpu(spread(host.q, c.extra_columns))),
        k(gpu(spread(host.k, c.extra_columns))),
        v(gpu(spread(host.v, c.extra_columns))),
        log_decay(gpu(host.log_decay)) {
    if (host.state.defined()) state = gpu(host.state);
    if (!c.lengths.empty()) {
      lengths = gpu(Tensor::of(std::vector<int32_t>(c.lengths.begin(), c.lengths.end())));
    }
    in = {at<T>(q),
          at<T>(k),
          at<T>(v),
          at<float>(log_decay),
          at<float>(state),
          at<int32_t>(lengths),
          {c.B, c.T, c.H, c.Gk, c.Gv, c.K, c.V, c.H * c.K + c.extra_columns, c.Gk * c.K + c.extra_columns,
           c.Gv * c.V + c.extra_columns, c.decay_by_token, 0.4f}};
  }
};

template <class T>
Results run_linear(const Linear& c, const LinearInputs& host) {
  return on_gpu([&] {
    const LinearOnGpu<T> there(c, host);
    const Tensor o = gpu_empty({c.B, c.T, c.H, c.V}, dtype_of<T>()), last = gpu_empty({c.B, c.H, c.K, c.V});
    cuda::linear_attention_fwd(at<T>(o), at<float>(last), there.in);
    return Results{o, last};
  });
}

template <class T>
void check_linear(const Linear& c) {
  SCOPED_TRACE(std::string(name(dtype_of<T>())) + " " + c.name());
  const LinearInputs in = make_inputs(c, dtype_of<T>());
  const LinearAttention truth = reference(c, in);
  const Results got = run_linear<T>(c, in);
  expect_close(got[0], truth.o.value(), "o", tolerance<T>());
  expect_close(got[1], truth.state.value(), "last state", tolerance<T>());
}

}  // namespace

TEST_F(Cuda, linear_attention_in_chunks) {
  Linear odd = {.B = 1, .T = 33, .H = 4, .Gk = 2, .Gv = 1, .K = 7, .V = 35, .extra_columns = 3};
  Linear ragged = {.T = 40, .K = 16, .V = 32, .decay_by_token = true, .lengths = {33, 0}};
  Linear strongest = {.T = 34, .decay_by_token = true, .steepest = INFINITY};
  Linear strongest_head = {.T = 34, .steepest = 1000};
  for (const Linear& c :
       {Linear{}, Linear{.T = 1, .with_state = false}, odd, ragged, strongest, strongest_head}) {
    check_linear<float>(c);
    check_linear<Bf16>(c);
  }
}

TEST_F(Cuda, linear_attention_on_tensor_cores) {
  check_linear<Bf16>({.B = 1, .T = 130, .K = 64, .V = 64});
  check_linear<Bf16>(
      {.T = 70, .H = 2, .Gk = 1, .Gv = 1, .K = 64, .V = 128, .decay_by_token = true, .lengths = {66, 3}});
  check_linear<Bf16>({.B = 1, .T = 63, .K = 128, .V = 64, .with_state = false, .extra_columns = 8});
  check_linear<Bf16>({.B = 1, .T = 65, .K = 128, .V = 128, .decay_by_token = true, .steepest = INFINITY});
}

TEST_F(Cuda, features_of_zero_give_zero) {
  for (const Linear& c : {Linear{.with_state = false}, Linear{.K = 64, .V = 64, .with_state = false}}) {
    LinearInputs in = make_inputs(c, Dtype::bf16);
    in.q.fill(0), in.k.fill(0);
    const Results got = run_linear<Bf16>(c, in);
    EXPECT_TRUE(same_bits(got[0], Tensor::zeros(got[0].shape(), Dtype::bf16)));
    EXPECT_TRUE(same_bits(got[1], Tensor::zeros(got[1].shape())));
  }
}

namespace {

template <class T>
void check_step(Linear c) {
  c.T = 1;
  SCOPED_TRACE(std::string(name(dtype_of<T>())) + " " + c.name());
  const LinearInputs in = make_inputs(c, dtype_of<T>());
  const LinearAttention truth = reference(c, in);
  const Results got = on_gpu([&] {
    const LinearOnGpu<T> there(c, in);
    const Tensor o = gpu_empty({c.B, 1, c.H, c.V}, dtype_of<T>());
    cuda::linear_attention_step(at<T>(o), at<float>(there.state), there.in);
    return Results{o, there.state};
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

}  // namespace supra
