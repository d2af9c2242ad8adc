#include "tests/gpu/cuda_support.h"

namespace supra {
namespace {

// Every third is left out.
Tensor some_targets(int64_t N, int64_t O) {
  std::vector<int32_t> targets(N);
  for (int64_t n = 0; n < N; n++) targets[n] = n % 3 == 1 ? kIgnore : static_cast<int32_t>(7 * n % O);
  return Tensor::of(targets);
}

template <class T>
void check_cross_entropy(int64_t N, int64_t O, double size) {
  SCOPED_TRACE(format("%s N%ld O%ld logits of size %g", name(dtype_of<T>()), long(N), long(O), size));
  Tensor x = random_normal({N, O}, 1);
  for (int64_t i = 0; i < x.numel(); i++) x.data<float>()[i] *= static_cast<float>(size);
  x = x.to(dtype_of<T>());
  const Tensor targets = some_targets(N, O), seed = Tensor::full({1}, 0.5);
  const Var x64(x.to(Dtype::f64), true), loss64 = cross_entropy(x64, targets, 0.01);
  backward(loss64, seed.to(Dtype::f64));
  const Results got = on_gpu([&] {
    const Var X(gpu(x), true), loss = cross_entropy(X, targets, 0.01);
    backward(loss, gpu(seed));
    return Results{loss.value(), X.grad(), token_nll(gpu(x), gpu(targets))};
  });
  EXPECT_EQ(got[0].dtype(), Dtype::f32);
  expect_close(got[0], loss64.value(), "loss");
  expect_close(got[1], x64.grad(), "dx", tolerance<T>());
  expect_close(got[2], token_nll(x.to(Dtype::f64), targets), "nll");
}

}  // namespace

TEST_F(Cuda, cross_entropy) {
  // one logit, less than a warp, rows that fill no vector, a block of every thread and more than one step of
  // it
  for (auto [N, O] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {5, 3}, {7, 64}, {3, 333}, {4, 1000}, {3, 4100}}) {
    check_cross_entropy<float>(N, O, 1);
    check_cross_entropy<Bf16>(N, O, 1);
  }
  check_cross_entropy<float>(5, 100, 300);
}

namespace {

// Logits that are waves along the vocabulary.
void waves(int64_t first, const Tensor&, const Tensor& logits) {
  const Tensor host = Tensor::empty(logits.shape(), Dtype::f64);
  const int64_t O = logits.dim(1);
  for (int64_t i = 0; i < host.numel(); i++)
    host.data<double>()[i] = 2 * std::sin(0.7 * static_cast<double>(first * O + i));
  logits.copy_from(host);
}

template <class T>
void check_linear_cross_entropy(int64_t N, int64_t C, int64_t O, double teacher) {
  SCOPED_TRACE(
      format("%s N%ld C%ld O%ld teacher %g", name(dtype_of<T>()), long(N), long(C), long(O), teacher));
  const Tensor h = random_normal({N, C}, 1).to(dtype_of<T>()), targets = some_targets(N, O);
  // what the product makes of it
  const Tensor w = random_normal({O, C}, 2).to(dtype_of<T>()).to(Dtype::f32), seed = Tensor::full({1}, 0.5);
  const Distillation taught = {waves, teacher};
  const Var h64(h.to(Dtype::f64), true), w64(w.to(Dtype::f64), true);
  const Var loss64 = linear_cross_entropy(h64, w64, targets, 0.01, taught);
  backward(loss64, seed.to(Dtype::f64));
  const auto run = [&](double factor) {
    const Var H(gpu(h), true), W(gpu(w), true), loss = linear_cross_entropy(H, W, targets, 0.01, taught);
    backward(loss, gpu(Tensor::full({1}, factor)));
    return Results{loss.value(), H.grad(), W.grad(),
                   linear_cross_entropy(H.detach(), W.detach(), targets, 0.01, taught).value()};
  };
  const Results got = on_gpu([&] { return run(0.5); });
  expect_close(got[0], loss64.value(), "loss");
  expect_close(got[1], h64.grad(), "dh", tolerance<T>());
  // dlogits are rounded to bf16 on their way to dw
  expect_close(got[2], w64.grad(), "dw", tolerance<T>());
  EXPECT_TRUE(same_bits(got[3], got[0]));
}

}  // namespace

TEST_F(Cuda, linear_cross_entropy) {
  for (const double teacher : {0.0, 0.7, 1.0}) {
    check_linear_cross_entropy<float>(5, 3, 7, teacher);
    check_linear_cross_entropy<Bf16>(5, 3, 7, teacher);
    check_linear_cross_entropy<float>(9, 8, 132, teacher);
    check_linear_cross_entropy<Bf16>(9, 8, 132, teacher);
  }
}

// 33 rows of so many logits are two blocks.
TEST_F(Cuda, linear_cross_entropy_in_blocks) {
  const int64_t N = 33, O = kLogitsAtOnce / 32;
  const Tensor h = random_normal({N, 2}, 1), w = random_normal({O, 2}, 2), targets = some_targets(N, O);
  const Var H32(h, true), W32(w, true), H(gpu(h), true), W(gpu(w), true);
  const Var truth = linear_cross_entropy(H32, W32, targets, 0.01),
            loss = linear_cross_entropy(H, W, targets, 0.01);
  backward(truth);
  backward(loss);
  expect_close(loss.value().to(Device::cpu), truth.value(), "loss");
  expect_close(H.grad().to(Device::cpu), H32.grad(), "dh", 2);
  expect_close(W.grad().to(Device::cpu), W32.grad(), "dw", 2);
}

TEST_F(Cuda, no_targets_are_no_loss) {
  const Tensor targets = Tensor::full({3}, kIgnore, Dtype::i32);
  const Var h(gpu(random_normal({3, 4}, 1)), true), w(gpu(random_normal({5, 4}, 2)), true);
  const Var loss = linear_cross_entropy(h, w, targets);
  backward(loss);
  EXPECT_EQ(loss.value().item(), 0);
  EXPECT_TRUE(same_bits(w.grad().to(Device::cpu), Tensor::zeros({5, 4})));
}

}  // namespace supra
