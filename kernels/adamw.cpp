#include <cmath>

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// adamw (Loshchilov and Hutter, arXiv 1711.05101), step s = 1, 2, ...:
//   g *= grad_scale,  m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
//   w = (1 - lr decay) w - lr m / (1 - b1^s) / (sqrt(v / (1 - b2^s)) + eps)
//   w, m, v, g of one shape; w, m, v are updated in place

namespace supra {
namespace cpu {

template <class T>
static void adamw(T* w, T* m, T* v, const T* g, int64_t n, const AdamwStep& o) {
  const double correct_m = 1 - std::pow(o.beta1, o.step), correct_v = 1 - std::pow(o.beta2, o.step);
  for (int64_t i = 0; i < n; i++) {
    const double grad = g[i] * o.grad_scale;
    m[i] = o.beta1 * m[i] + (1 - o.beta1) * grad;
    v[i] = o.beta2 * v[i] + (1 - o.beta2) * grad * grad;
    w[i] -= o.lr * (m[i] / correct_m / (std::sqrt(v[i] / correct_v) + o.eps) + o.weight_decay * w[i]);
  }
}

static AdamwFactors factors_of(const AdamwStep& o) {
  return {.grad_scale = static_cast<float>(o.grad_scale),
          .old_m = static_cast<float>(o.beta1),
          .new_m = static_cast<float>(1 - o.beta1),
          .old_v = static_cast<float>(o.beta2),
          .new_v = static_cast<float>(1 - o.beta2),
          .keep = static_cast<float>(1 - o.lr * o.weight_decay),
          .rate = static_cast<float>(o.lr / (1 - std::pow(o.beta1, o.step))),
          .v_scale = static_cast<float>(1 / std::sqrt(1 - std::pow(o.beta2, o.step))),
          .eps = static_cast<float>(o.eps)};
}

static void adamw(float* w, float* m, float* v, const float* g, int64_t n, const AdamwStep& o) {
  const AdamwFactors factors = factors_of(o);
  parallel_for(n, row_grain(1), [&](int64_t begin, int64_t end) {
    simd().adamw(w + begin, m + begin, v + begin, g + begin, end - begin, factors);
  });
}

template <class T>
static double sum_squares(const T* x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
  return sum;
}

static double sum_squares(const float* x, int64_t n) {
  double sum;
  simd().sum_squares(&sum, x, n);
  return sum;
}

}  // namespace cpu

void adamw_update(const Tensor& w, const Tensor& m, const Tensor& v, const Tensor& g,
                  const AdamwStep& options) {
  check_shape("adamw", "m", m.shape(), w.shape());
  check_shape("adamw", "v", v.shape(), w.shape());
  check_shape("adamw", "the gradient", g.shape(), w.shape());
  CHECK(options.step >= 1, "adamw: step %ld, the first update is step 1", static_cast<long>(options.step));
  constexpr Device gpu = Device::cuda;
  by_device(
      "adamw", w,
      [&]<class T>(T) {
        cpu::adamw(w.data<T>(), m.data<T>(), v.data<T>(), g.data<T>(), w.numel(), options);
      },
      [&]<class T>(T) {
        // the masters, whatever the activations are
        cuda::adamw(w.data<float>(gpu), m.data<float>(gpu), v.data<float>(gpu), g.data<float>(gpu), w.numel(),
                    cpu::factors_of(options));
      });
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
    by_device(
        "squared_norm", t,
        [&]<class T>(T) {
          parallel_for(blocks_of(t), 1, [&](int64_t from, int64_t to) {
            for (int64_t block = from; block < to; block++) {
              const int64_t begin = block * kBlock, n = std::min(kBlock, t.numel() - begin);
              sums.data<double>()[first + block] = cpu::sum_squares(t.data<T>() + begin, n);
            }
          });
        },
        [&]<class T>(T) {
          cuda::sum_squares(sums.data<double>(Device::cuda) + first, t.data<T>(Device::cuda), t.numel());
        });
    first += blocks_of(t);
  }
  // one wait for the GPU, however many tensors there are
  const Tensor here = sums.to(Device::cpu);
  double total = 0;
  for (int64_t block = 0; block < blocks; block++) total += here.data<double>()[block];
  return total;
}

double squared_norm(const Tensor& t) { return squared_norm(std::vector{t}); }

}  // namespace supra
