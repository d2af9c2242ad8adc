#include <cmath>

#include "kernels/by_rows.h"
#include "kernels/ops.h"

// layernorm (Ba, Kiros and Hinton, arXiv 1607.06450): y = w n + b,  n = (x - mean(x)) rstd,  rstd = 1 / sqrt(var(x) + eps)
//   x (N,C)  w (C)  b (C)  y (N,C)  mean, rstd (N) saved for backward.   dx: =   dw, db: +=
//   dx = rstd (w dy - mean(w dy) - n mean(w dy n)),  dw = sum over rows of dy n,  db = sum over rows of dy
// Each of w, b, dw and db may be missing: nullptr.

namespace supra {
namespace cpu {

static void layernorm_fwd(double* y, double* mean, double* rstd, const double* x, const double* w, const double* b, int64_t N,
                          int64_t C, double eps) {
  for (int64_t row = 0; row < N; row++, y += C, x += C) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < C; i++) sum += x[i];
    const double m = mean[row] = sum / C;
    for (int64_t i = 0; i < C; i++) squares += (x[i] - m) * (x[i] - m);
    const double r = rstd[row] = 1 / std::sqrt(squares / C + eps);
    for (int64_t i = 0; i < C; i++) y[i] = (x[i] - m) * r * (w ? w[i] : 1) + (b ? b[i] : 0);
  }
}

static void layernorm_bwd(double* dx, double* dw, double* db, const double* dy, const double* x, const double* w,
                          const double* mean, const double* rstd, int64_t N, int64_t C) {
  for (int64_t row = 0; row < N; row++, dx += C, dy += C, x += C) {
    const double m = mean[row], r = rstd[row];
    double shift = 0, pull = 0;
    for (int64_t i = 0; i < C; i++) {
      const double g = dy[i] * (w ? w[i] : 1);
      shift += g / C;
      pull += g * (x[i] - m) * r / C;
    }
    for (int64_t i = 0; i < C; i++) {
      const double n = (x[i] - m) * r;
      dx[i] = r * (dy[i] * (w ? w[i] : 1) - shift - n * pull);
      if (dw) dw[i] += dy[i] * n;
      if (db) db[i] += dy[i];
    }
  }
}

}  // namespace cpu

Var layernorm(const Var& x, const Var& w, const Var& b, double eps) {
  const int64_t C = x.dim(-1), N = row_count(x.value());
  if (w.defined()) check_shape("layernorm", "w", w.shape(), {C});
  if (b.defined()) check_shape("layernorm", "b", b.shape(), {C});
  const Tensor scale = w.defined() ? w.value() : Tensor(), offset = b.defined() ? b.value() : Tensor();
  const Tensor y = empty_like(x.value()), mean = Tensor::empty({N}, sum_dtype(x.dtype()), y.device()), rstd = empty_like(mean);
  by_rows("layernorm", y, N, C, KERNELS(layernorm_fwd), y, PerRow{mean}, PerRow{rstd}, x.value(), Wide{scale}, Wide{offset},
          Count{N}, C, eps);
  return record("layernorm", {x, w, b}, y, [=, x = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x), dw = grads.needs(1) ? grads.into(1) : Tensor(),
                 db = grads.needs(2) ? grads.into(2) : Tensor();
    by_rows("layernorm", dx, N, C, KERNELS(layernorm_bwd), dx, RowSum{dw}, RowSum{db}, dy, x, Wide{scale}, PerRow{mean},
            PerRow{rstd}, Count{N}, C);
    grads.give(0, dx);
  });
}

}  // namespace supra
