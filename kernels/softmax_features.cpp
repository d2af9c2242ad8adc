#include <cmath>

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// softmax_features (Hedgehog, arXiv 2402.04347): y = [p; n],  p = softmax(x),  n = softmax(-x) of each head
//   x (N,f)  y (N,2f) saved for backward, N counts heads.   dx: =
//   dx = p (dp - p.dp) - n (dn - n.dn)

namespace supra {
namespace cpu {

template <class T>
static void softmax(T* y, const T* x, T sign, int64_t f) {
  T shift = sign * x[0], sum = 0;
  for (int64_t i = 1; i < f; i++) shift = std::max(shift, sign * x[i]);
  for (int64_t i = 0; i < f; i++) sum += y[i] = std::exp(sign * x[i] - shift);
  for (int64_t i = 0; i < f; i++) y[i] /= sum;
}

template <class T>
static void softmax_features_fwd(T* y, const T* x, int64_t N, int64_t f) {
  for (int64_t row = 0; row < N; row++, y += 2 * f, x += f) {
    softmax<T>(y, x, 1, f);
    softmax<T>(y + f, x, -1, f);
  }
}

template <class T>
static void softmax_features_bwd(T* dx, const T* dy, const T* y, int64_t N, int64_t f) {
  for (int64_t row = 0; row < N; row++, dx += f, dy += 2 * f, y += 2 * f) {
    T p_pull = 0, n_pull = 0;
    for (int64_t i = 0; i < f; i++) p_pull += y[i] * dy[i], n_pull += y[f + i] * dy[f + i];
    for (int64_t i = 0; i < f; i++) dx[i] = y[i] * (dy[i] - p_pull) - y[f + i] * (dy[f + i] - n_pull);
  }
}

static void softmax_features_fwd(float* y, const float* x, int64_t N, int64_t f) {
  parallel_for(N, row_grain(8 * f), [&](int64_t begin, int64_t end) {
    simd().softmax_features_fwd(y + begin * 2 * f, x + begin * f, end - begin, f);
  });
}

static void softmax_features_bwd(float* dx, const float* dy, const float* y, int64_t N, int64_t f) {
  parallel_for(N, row_grain(2 * f), [&](int64_t begin, int64_t end) {
    simd().softmax_features_bwd(dx + begin * f, dy + begin * 2 * f, y + begin * 2 * f, end - begin, f);
  });
}

}  // namespace cpu

Var softmax_features(const Var& x, int64_t heads) {
  Shape shape = x.shape();
  const int64_t C = x.dim(-1);
  CHECK(heads > 0 && C % heads == 0, "softmax_features: a row of %ld does not divide into %ld heads",
        static_cast<long>(C), static_cast<long>(heads));
  shape.back() *= 2;
  const int64_t N = row_count(x.value()) * heads, f = C / heads;
  const Tensor y = Tensor::empty(shape, x.dtype(), x.value().device());
  by_device("softmax_features", y, OVERLOADS(cpu::softmax_features_fwd), OVERLOADS(cuda::softmax_features_fwd), y, x.value(), N, f);
  return record("softmax_features", {x}, y, [=, shape = x.shape()](const Tensor& dy, Grads& grads) {
    const Tensor dx = Tensor::empty(shape, y.dtype(), y.device());
    by_device("softmax_features", y, OVERLOADS(cpu::softmax_features_bwd), OVERLOADS(cuda::softmax_features_bwd), dx, dy, y, N, f);
    grads.give(0, dx);
  });
}

}  // namespace supra
