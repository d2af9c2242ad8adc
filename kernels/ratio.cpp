#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "tensor/parallel.h"

// divide_by_last: y_i = x_i / d,  d = x_V + eps
//   x (N,V+1) saved for backward  y (N,V).   dx: =
//   dx_i = dy_i / d,  dx_V = -sum_i dy_i x_i / d^2

namespace supra {
namespace cpu {

template <class T>
static void divide_by_last_fwd(T* y, const T* x, int64_t N, int64_t V, double eps) {
  parallel_for(N, row_grain(V), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      const T divisor = x[n * (V + 1) + V] + static_cast<T>(eps);
      for (int64_t i = 0; i < V; i++) y[n * V + i] = x[n * (V + 1) + i] / divisor;
    }
  });
}

template <class T>
static void divide_by_last_bwd(T* all_dx, const T* all_dy, const T* all_x, int64_t N, int64_t V, double eps) {
  parallel_for(N, row_grain(V), [=](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++) {
      T* const dx = all_dx + n * (V + 1);
      const T *dy = all_dy + n * V, *x = all_x + n * (V + 1);
      const T inverse = 1 / (x[V] + static_cast<T>(eps));
      T pull = 0;
      for (int64_t i = 0; i < V; i++) {
        dx[i] = dy[i] * inverse;
        pull += dx[i] * x[i];
      }
      dx[V] = -pull * inverse;
    }
  });
}

}  // namespace cpu

Var divide_by_last(const Var& x, double eps) {
  Shape shape = x.shape();
  CHECK(!shape.empty() && shape.back() >= 2, "divide_by_last: x is %s, values and what divides them are needed",
        to_string(shape).c_str());
  const int64_t V = --shape.back(), N = row_count(x.value());
  const Tensor& in = x.value();
  const Tensor y = Tensor::empty(shape, in.dtype(), in.device());
  by_device("divide_by_last", in, OVERLOADS(cpu::divide_by_last_fwd), OVERLOADS(cuda::divide_by_last_fwd), y, in, N, V, eps);
  return record("divide_by_last", {x}, y, [=, in = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(in);
    by_device("divide_by_last", in, OVERLOADS(cpu::divide_by_last_bwd), OVERLOADS(cuda::divide_by_last_bwd), dx, dy, in, N, V, eps);
    grads.give(0, dx);
  });
}

}  // namespace supra
