#include "kernels/by_rows.h"
#include "kernels/ops.h"

// divide_by_last: y_i = x_i / d,  d = x_V + eps
//   x (N,V+1) saved for backward  y (N,V).   dx: =
//   dx_i = dy_i / d,  dx_V = -sum_i dy_i x_i / d^2

namespace supra {
namespace cpu {

template <class T>
static void divide_by_last_fwd(T* y, const T* x, int64_t N, int64_t V, double eps) {
  for (int64_t n = 0; n < N; n++, y += V, x += V + 1) {
    const T divisor = x[V] + static_cast<T>(eps);
    for (int64_t i = 0; i < V; i++) y[i] = x[i] / divisor;
  }
}

template <class T>
static void divide_by_last_bwd(T* dx, const T* dy, const T* x, int64_t N, int64_t V, double eps) {
  for (int64_t n = 0; n < N; n++, dx += V + 1, dy += V, x += V + 1) {
    const T inverse = 1 / (x[V] + static_cast<T>(eps));
    T pull = 0;
    for (int64_t i = 0; i < V; i++) {
      dx[i] = dy[i] * inverse;
      pull += dx[i] * x[i];
    }
    dx[V] = -pull * inverse;
  }
}

}  // namespace cpu

Var divide_by_last(const Var& x, double eps) {
  Shape shape = x.shape();
  CHECK(!shape.empty() && shape.back() >= 2, "divide_by_last: x is %s, values and what divides them are needed",
        to_string(shape).c_str());
  const int64_t V = --shape.back(), N = row_count(x.value());
  const Tensor& in = x.value();
  const Tensor y = Tensor::empty(shape, in.dtype(), in.device());
  by_rows("divide_by_last", in, N, V, PLAIN_KERNELS(divide_by_last_fwd), y, in, Count{N}, V, eps);
  return record("divide_by_last", {x}, y, [=, in = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(in);
    by_rows("divide_by_last", in, N, V, PLAIN_KERNELS(divide_by_last_bwd), dx, dy, in, Count{N}, V, eps);
    grads.give(0, dx);
  });
}

}  // namespace supra
