#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "tensor/parallel.h"

// divide_by_last: y_i = x_i / d,  d = x_V + eps
//   x (N,V+1) saved for backward  y (N,V).   dx: =
//   dx_i = dy_i / d,  dx_V = -sum_i dy_i x_i / d^2

namespace supra {
namespace {

template <class T>
void divide(T* y, const T* x, int64_t N, int64_t V, T eps) {
  for (int64_t n = 0; n < N; n++, y += V, x += V + 1) {
    for (int64_t i = 0; i < V; i++) y[i] = x[i] / (x[V] + eps);
  }
}

template <class T>
void divide_bwd(T* dx, const T* dy, const T* x, int64_t N, int64_t V, T eps) {
  for (int64_t n = 0; n < N; n++, dx += V + 1, dy += V, x += V + 1) {
    const T inverse = 1 / (x[V] + eps);
    T pull = 0;
    for (int64_t i = 0; i < V; i++) {
      dx[i] = dy[i] * inverse;
      pull += dx[i] * x[i];
    }
    dx[V] = -pull * inverse;
  }
}

}  // namespace

Var divide_by_last(const Var& x, double eps) {
  Shape shape = x.shape();
  CHECK(!shape.empty() && shape.back() >= 2, "divide_by_last: x is %s, values and what divides them are needed",
        to_string(shape).c_str());
  const int64_t V = --shape.back(), N = row_count(x.value());
  constexpr Device gpu = Device::cuda;
  const Tensor& in = x.value();
  const Tensor y = Tensor::empty(shape, in.dtype(), in.device());
  by_device(
      "divide_by_last", in,
      [&]<class T>(T) {
        parallel_for(N, row_grain(V), [&](int64_t begin, int64_t end) {
          divide(y.data<T>() + begin * V, in.data<T>() + begin * (V + 1), end - begin, V, static_cast<T>(eps));
        });
      },
      [&]<class T>(T) { cuda::divide_by_last_fwd(y.data<T>(gpu), in.data<T>(gpu), N, V, eps); });
  return record("divide_by_last", {x}, y, [=, in = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(in);
    by_device(
        "divide_by_last", in,
        [&]<class T>(T) {
          parallel_for(N, row_grain(V), [&](int64_t begin, int64_t end) {
            divide_bwd(dx.data<T>() + begin * (V + 1), dy.data<T>() + begin * V,
                       in.data<T>() + begin * (V + 1), end - begin, V, static_cast<T>(eps));
          });
        },
        [&]<class T>(T) {
          cuda::divide_by_last_bwd(dx.data<T>(gpu), dy.data<T>(gpu), in.data<T>(gpu), N, V, eps);
        });
    grads.give(0, dx);
  });
}

}  // namespace supra
