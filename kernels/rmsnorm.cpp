#include <cmath>

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/row_sums.h"
#include "kernels/simd.h"

// rmsnorm (Zhang and Sennrich, arXiv 1910.07467): y = w x rstd,  rstd = 1 / sqrt(mean(x^2) + eps)
//   x (N,C)  w (C)  y (N,C)  rstd (N) saved for backward.   dx: =   dw: +=
//   dx = rstd (w dy - x rstd^2 mean(w dy x)),  dw = sum over rows of dy x rstd

namespace supra {
namespace cpu {

template <class T>
static void rmsnorm_fwd(T* y, T* rstd, const T* x, const T* w, int64_t N, int64_t C, double eps) {
  for (int64_t row = 0; row < N; row++, y += C, x += C) {
    T squares = 0;
    for (int64_t i = 0; i < C; i++) squares += x[i] * x[i];
    rstd[row] = 1 / std::sqrt(squares / C + static_cast<T>(eps));
    for (int64_t i = 0; i < C; i++) y[i] = w[i] * x[i] * rstd[row];
  }
}

template <class T>
static void rmsnorm_bwd(T* dx, T* dw, const T* dy, const T* x, const T* w, const T* rstd, int64_t N,
                        int64_t C) {
  for (int64_t row = 0; row < N; row++, dx += C, dy += C, x += C) {
    const T r = rstd[row];
    T dot = 0;
    for (int64_t i = 0; i < C; i++) dot += dy[i] * w[i] * x[i];
    for (int64_t i = 0; i < C; i++) {
      dx[i] = r * (dy[i] * w[i] - x[i] * r * r * dot / C);
      if (dw) dw[i] += dy[i] * x[i] * r;
    }
  }
}

static void rmsnorm_fwd(float* y, float* rstd, const float* x, const float* w, int64_t N, int64_t C,
                        double eps) {
  parallel_for(N, row_grain(C), [&](int64_t begin, int64_t end) {
    simd().rmsnorm_fwd(y + begin * C, rstd + begin, x + begin * C, w, end - begin, C,
                       static_cast<float>(eps));
  });
}

static void rmsnorm_bwd(float* dx, float* dw, const float* dy, const float* x, const float* w,
                        const float* rstd, int64_t N, int64_t C) {
  add_row_sums({dw}, N, C, [&](int64_t begin, int64_t end, float* partial) {
    simd().rmsnorm_bwd(dx + begin * C, partial, dy + begin * C, x + begin * C, w, rstd + begin, end - begin,
                       C);
  });
}

}  // namespace cpu

Var rmsnorm(const Var& x, const Var& w, double eps) {
  const int64_t C = x.dim(-1), N = row_count(x.value());
  check_shape("rmsnorm", "w", w.shape(), {C});
  const Tensor y = empty_like(x.value()), rstd = Tensor::empty({N}, sum_dtype(x.dtype()), y.device());
  by_device("rmsnorm", x.value(), OVERLOADS(cpu::rmsnorm_fwd), OVERLOADS(cuda::rmsnorm_fwd), y, Wide{rstd}, x.value(),
            Wide{w.value()}, N, C, eps);
  return record("rmsnorm", {x, w}, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x), dw = grads.needs(1) ? grads.into(1) : Tensor();
    by_device("rmsnorm", x, OVERLOADS(cpu::rmsnorm_bwd), OVERLOADS(cuda::rmsnorm_bwd), dx, Wide{dw}, dy, x, Wide{w}, Wide{rstd}, N, C);
    grads.give(0, dx);
  });
}

}  // namespace supra
