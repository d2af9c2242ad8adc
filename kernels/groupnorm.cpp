#include <cmath>

#include "kernels/by_rows.h"
#include "kernels/ops.h"

// groupnorm (Wu and He, arXiv 1803.08494), without weights: y = (x - mean(x)) rstd,  rstd = 1 / sqrt(var(x) + eps) in each of
// the G parts of a row, D = C / G elements wide.
//   x (N,G*D)  y (N,G*D) and rstd (N,G) saved for backward.   dx: =
//   dx = rstd (dy - mean(dy) - y mean(dy y))
// To the kernels a group is a row: N counts groups there.

namespace supra {
namespace cpu {

static void groupnorm_fwd(double* y, double* rstd, const double* x, int64_t N, int64_t D, double eps) {
  for (int64_t group = 0; group < N; group++, y += D, x += D) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < D; i++) sum += x[i];
    const double mean = sum / D;
    for (int64_t i = 0; i < D; i++) squares += (x[i] - mean) * (x[i] - mean);
    rstd[group] = 1 / std::sqrt(squares / D + eps);
    for (int64_t i = 0; i < D; i++) y[i] = (x[i] - mean) * rstd[group];
  }
}

static void groupnorm_bwd(double* dx, const double* dy, const double* y, const double* rstd, int64_t N, int64_t D) {
  for (int64_t group = 0; group < N; group++, dx += D, dy += D, y += D) {
    double shift = 0, pull = 0;
    for (int64_t i = 0; i < D; i++) {
      shift += dy[i] / D;
      pull += dy[i] * y[i] / D;
    }
    for (int64_t i = 0; i < D; i++) dx[i] = rstd[group] * (dy[i] - shift - y[i] * pull);
  }
}

}  // namespace cpu

Var groupnorm(const Var& x, int64_t groups, double eps) {
  const int64_t C = x.dim(-1);
  CHECK(groups > 0 && C % groups == 0, "groupnorm: a row of %ld does not divide into %ld groups", static_cast<long>(C),
        static_cast<long>(groups));
  const int64_t N = row_count(x.value()) * groups, D = C / groups;
  const Tensor y = empty_like(x.value()), rstd = Tensor::empty({N}, sum_dtype(x.dtype()), y.device());
  by_rows("groupnorm", y, N, D, KERNELS(groupnorm_fwd), y, PerRow{rstd}, x.value(), Count{N}, D, eps);
  return record("groupnorm", {x}, y, [=](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(y);
    by_rows("groupnorm", y, N, D, KERNELS(groupnorm_bwd), dx, dy, y, PerRow{rstd}, Count{N}, D);
    grads.give(0, dx);
  });
}

}  // namespace supra
