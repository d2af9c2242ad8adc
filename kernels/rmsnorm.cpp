#include <cmath>

#include "kernels/by_rows.h"
#include "kernels/ops.h"

// rmsnorm (Zhang and Sennrich, arXiv 1910.07467): y = w x rstd,  rstd = 1 / sqrt(mean(x^2) + eps)
//   x (N,C)  w (C)  y (N,C)  rstd (N) saved for backward.   dx: =   dw: +=, or null
//   dx = rstd (w dy - x rstd^2 mean(w dy x)),  dw = sum over rows of dy x rstd

namespace supra {
namespace cpu {

static void rmsnorm_fwd(double* y, double* rstd, const double* x, const double* w, int64_t N, int64_t C, double eps) {
  for (int64_t row = 0; row < N; row++, y += C, x += C) {
    double squares = 0;
    for (int64_t i = 0; i < C; i++) squares += x[i] * x[i];
    rstd[row] = 1 / std::sqrt(squares / C + eps);
    for (int64_t i = 0; i < C; i++) y[i] = w[i] * x[i] * rstd[row];
  }
}

static void rmsnorm_bwd(double* dx, double* dw, const double* dy, const double* x, const double* w, const double* rstd,
                        int64_t N, int64_t C) {
  for (int64_t row = 0; row < N; row++, dx += C, dy += C, x += C) {
    const double r = rstd[row];
    double dot = 0;
    for (int64_t i = 0; i < C; i++) dot += dy[i] * w[i] * x[i];
    for (int64_t i = 0; i < C; i++) {
      dx[i] = r * (dy[i] * w[i] - x[i] * r * r * dot / C);
      if (dw) dw[i] += dy[i] * x[i] * r;
    }
  }
}

}  // namespace cpu

Var rmsnorm(const Var& x, const Var& w, double eps) {
  const int64_t C = x.dim(-1), N = row_count(x.value());
  check_shape("rmsnorm", "w", w.shape(), {C});
  const Tensor y = empty_like(x.value()), rstd = Tensor::empty({N}, sum_dtype(x.dtype()), y.device());
  by_rows("rmsnorm", y, N, C, KERNELS(rmsnorm_fwd), y, PerRow{rstd}, x.value(), Wide{w.value()}, Count{N}, C, eps);
  return record("rmsnorm", {x, w}, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x), dw = grads.needs(1) ? grads.into(1) : Tensor();
    by_rows("rmsnorm", dx, N, C, KERNELS(rmsnorm_bwd), dx, RowSum{dw}, dy, x, Wide{w}, PerRow{rstd}, Count{N}, C);
    grads.give(0, dx);
  });
}

}  // namespace supra
