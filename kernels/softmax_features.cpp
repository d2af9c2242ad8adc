#include <cmath>

#include "kernels/by_rows.h"
#include "kernels/ops.h"

// softmax_features (Hedgehog, arXiv 2402.04347): y = [p; n],  p = softmax(x),  n = softmax(-x) of each head
//   x (N,f)  y (N,2f) saved for backward, N counts heads.   dx: =
//   dx = p (dp - p.dp) - n (dn - n.dn)

namespace supra {
namespace cpu {

static void softmax(double* y, const double* x, double sign, int64_t f) {
  double shift = sign * x[0], sum = 0;
  for (int64_t i = 1; i < f; i++) shift = std::max(shift, sign * x[i]);
  for (int64_t i = 0; i < f; i++) sum += y[i] = std::exp(sign * x[i] - shift);
  for (int64_t i = 0; i < f; i++) y[i] /= sum;
}

static void softmax_features_fwd(double* y, const double* x, int64_t N, int64_t f) {
  for (int64_t row = 0; row < N; row++, y += 2 * f, x += f) {
    softmax(y, x, 1, f);
    softmax(y + f, x, -1, f);
  }
}

static void softmax_features_bwd(double* dx, const double* dy, const double* y, int64_t N, int64_t f) {
  for (int64_t row = 0; row < N; row++, dx += f, dy += 2 * f, y += 2 * f) {
    double p_pull = 0, n_pull = 0;
    for (int64_t i = 0; i < f; i++) p_pull += y[i] * dy[i], n_pull += y[f + i] * dy[f + i];
    for (int64_t i = 0; i < f; i++) dx[i] = y[i] * (dy[i] - p_pull) - y[f + i] * (dy[f + i] - n_pull);
  }
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
  // exp() is slow, so fewer rows are worth a thread
  by_rows("softmax_features", y, N, 8 * f, KERNELS(softmax_features_fwd), y, x.value(), Count{N}, f);
  return record("softmax_features", {x}, y, [=, shape = x.shape()](const Tensor& dy, Grads& grads) {
    const Tensor dx = Tensor::empty(shape, y.dtype(), y.device());
    by_rows("softmax_features", y, N, 2 * f, KERNELS(softmax_features_bwd), dx, dy, y, Count{N}, f);
    grads.give(0, dx);
  });
}

}  // namespace supra
