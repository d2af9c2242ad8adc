#include <algorithm>
#include <cmath>

#include "kernels/ops.h"
#include "tensor/cuda.h"
#include "tensor/random.h"
#include "tools/bench/bench.h"

namespace supra {
namespace {

// f() makes `count` runs. Repeats it for this many seconds and returns the shortest time per run.
double least_seconds(double seconds, int count, FunctionRef<void()> f) {
  double least = INFINITY, spent = 0;
  for (int run = 0; run < 3 || spent < seconds; run++) {
    const double time = cuda::seconds_of([&] { f(); });
    least = std::min(least, time / count), spent += time;
  }
  return least;
}

// Random numbers, because products of zeros draw less power and are unrealistically fast.
Tensor random_matrix(int64_t n, Dtype dtype) {
  const Tensor t = Tensor::empty({n, n});
  Philox random(1, 0);
  const int64_t drawn = std::min<int64_t>(t.numel(), 1 << 16);
  for (int64_t i = 0; i < drawn; i++) t.data<float>()[i] = static_cast<float>(random.normal());
  for (int64_t i = drawn; i < t.numel(); i++) t.data<float>()[i] = t.data<float>()[i - drawn];
  return t.to(dtype).to(Device::cuda);
}

double product_rate(int64_t n, Dtype dtype, double seconds) {
  const Var a(random_matrix(n, dtype)), b(random_matrix(n, dtype));
  const double time = least_seconds(seconds, 1, [&] { matmul(a, b); });
  return 2 * static_cast<double>(n * n * n) / time / 1e9;
}

double copy_rate(int64_t bytes, double seconds) {
  constexpr int kCopies = 4;
  const Tensor x = Tensor::zeros({bytes / 4}, Dtype::f32, Device::cuda), y = x.clone();
  const double time = least_seconds(seconds, kCopies, [&] {
    for (int i = 0; i < kCopies; i++) y.copy_from(x);
  });
  return 2 * static_cast<double>(x.bytes()) / time / 1e9;
}

}  // namespace

Roofs measure_gpu_roofs(Dtype dtype, double seconds, const Roofs& before, int64_t n, int64_t bytes) {
  Roofs best = before;
  const cuda::Gpu gpu = cuda::gpus().at(0);
  best.gpu = format("%s (sm_%d%d)", gpu.name.c_str(), gpu.major, gpu.minor);
  best.threads = gpu.multiprocessors;
  best.products_bf16 = std::max(best.products_bf16, product_rate(n, Dtype::bf16, seconds / 3));
  best.products_f32 = std::max(best.products_f32, product_rate(n, Dtype::f32, seconds / 3));
  best.fma = best.fma_core = dtype == Dtype::bf16 ? best.products_bf16 : best.products_f32;
  best.copy = best.copy_core = best.read = best.read_core =
      std::max(best.copy, copy_rate(bytes, seconds / 3));
  return best;
}

}  // namespace supra
