#include "kernels/by_rows.h"
#include "kernels/ops.h"

// groupnorm (Wu and He, arXiv 1803.08494), without weights: y = (x - mean(x)) rstd,  rstd = 1 / sqrt(var(x) + eps) in each of
// the G parts of a row, D = C / G elements wide.
//   x (N,G*D)  y (N,G*D) and rstd (N,G) saved for backward.   dx: =
//   dx = rstd (dy - mean(dy) - y mean(dy y))
// To the kernels a group is a row: N counts groups there. The reference is layernorm without weights.

namespace supra {

Var groupnorm(const Var& x, int64_t groups, double eps) {
  const int64_t C = x.dim(-1);
  CHECK(groups > 0 && C % groups == 0, "groupnorm: a row of %ld does not divide into %ld groups", static_cast<long>(C),
        static_cast<long>(groups));
  const int64_t N = row_count(x.value()) * groups, D = C / groups;
  if (x.dtype() == Dtype::f64) return reshape(layernorm(reshape(x, {N, D}), {}, {}, eps), x.shape());
  const Tensor y = empty_like(x.value()), rstd = Tensor::empty({N}, Dtype::f32, y.device());
  by_rows("groupnorm", y, N, D, NO_REFERENCE(groupnorm_fwd), y, PerRow{rstd}, x.value(), Count{N}, D, eps);
  return record("groupnorm", {x}, y, [=](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(y);
    by_rows("groupnorm", y, N, D, NO_REFERENCE(groupnorm_bwd), dx, dy, y, PerRow{rstd}, Count{N}, D);
    grads.give(0, dx);
  });
}

}  // namespace supra
