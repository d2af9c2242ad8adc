#include <cmath>
#include <numeric>

#include "kernels/by_rows.h"
#include "kernels/ops.h"

// adamw (Loshchilov and Hutter, arXiv 1711.05101), step s = 1, 2, ...:
//   g *= grad_scale,  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
//   w = (1 - lr decay) w - lr m / (1 - b1^s) / (sqrt(v / (1 - b2^s)) + eps)
//   w, m, v, g of one shape; w, m, v are updated in place

namespace supra {
namespace cpu {

static void adamw(double* w, double* m, double* v, const double* g, int64_t n, const AdamwStep& o) {
  const double correct_m = 1 - std::pow(o.beta1, o.step), correct_v = 1 - std::pow(o.beta2, o.step);
  for (int64_t i = 0; i < n; i++) {
    const double grad = g[i] * o.grad_scale;
    m[i] = o.beta1 * m[i] + (1 - o.beta1) * grad;
    v[i] = o.beta2 * v[i] + (1 - o.beta2) * grad * grad;
    w[i] -= o.lr * (m[i] / correct_m / (std::sqrt(v[i] / correct_v) + o.eps) + o.weight_decay * w[i]);
  }
}

static void sum_squares(double* sum, const double* x, int64_t n) {
  *sum = 0;
  for (int64_t i = 0; i < n; i++) *sum += x[i] * x[i];
}
static void sum_squares(double* sum, const float* x, int64_t n) { simd().sum_squares(sum, x, n); }

}  // namespace cpu

void adamw_update(const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g, const AdamwStep& o) {
  check_shape("adamw", "m", m.shape(), w.shape());
  check_shape("adamw", "v", v.shape(), w.shape());
  check_shape("adamw", "the gradient", g.shape(), w.shape());
  CHECK(o.step >= 1, "adamw: step %ld, the first update is step 1", static_cast<long>(o.step));
  const AdamwFactors factors = {.grad_scale = float(o.grad_scale),
                                .old_m = float(o.beta1), .new_m = float(1 - o.beta1),
                                .old_v = float(o.beta2), .new_v = float(1 - o.beta2),
                                .keep = float(1 - o.lr * o.weight_decay),
                                .rate = float(o.lr / (1 - std::pow(o.beta1, o.step))),
                                .v_scale = float(1 / std::sqrt(1 - std::pow(o.beta2, o.step))),
                                .eps = float(o.eps)};
  const auto reference = [&](auto... args) { cpu::adamw(args..., o); };
  const auto fast = [&](auto... args) { simd().adamw(args..., factors); };
  const auto gpu = [&](auto... args) { cuda::adamw(args..., factors); };
  // PerRow: on the GPU weights and moments are f32, whatever the activations are
  by_rows("adamw", w, w.numel(), 1, reference, fast, gpu, PerRow{w}, PerRow{m}, PerRow{v}, PerRow{g}, Count{w.numel()});
}

double squared_norm(const std::vector<Tensor>& tensors) {
  // fixed blocks, added in order: the same bits with any number of threads
  constexpr int64_t kBlock = cuda::kSquaresBlock;
  const auto blocks_of = [](const Tensor& t) { return (t.numel() + kBlock - 1) / kBlock; };
  int64_t blocks = 0;
  for (const Tensor& t : tensors) blocks += blocks_of(t);
  if (blocks == 0) return 0;
  const Tensor sums = Tensor::empty({blocks}, Dtype::f64, tensors[0].device());
  int64_t first = 0;
  for (const Tensor& t : tensors) {
    const auto on_cpu = [&]<class T>(T) {
      parallel_each(blocks_of(t), 1, [&](int64_t block) {
        const int64_t begin = block * kBlock, n = std::min(kBlock, t.numel() - begin);
        cpu::sum_squares(sums.data<double>() + first + block, t.data<T>() + begin, n);
      });
    };
    const auto on_gpu = [&]<class T>(T) {
      cuda::sum_squares(sums.data<double>(Device::cuda) + first, t.data<T>(Device::cuda), t.numel());
    };
    by_device("squared_norm", t, on_cpu, on_gpu);
    first += blocks_of(t);
  }
  // one wait for the GPU, however many tensors there are
  const Tensor here = sums.to(Device::cpu);
  return std::accumulate(here.data<double>(), here.data<double>() + blocks, 0.0);
}

}  // namespace supra
