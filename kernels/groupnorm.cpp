#include <cmath>

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// groupnorm (Wu and He, arXiv 1803.08494), no affine part: y = (x - mean(x)) rstd,  rstd = 1 / sqrt(var(x) +
// eps) in each of the G parts of a row, D = C / G elements wide.
//   x (N,G*D)  y (N,G*D) and rstd (N,G) saved for backward.   dx: =
//   dx = rstd (dy - mean(dy) - y mean(dy y))
// To the kernels a group is a row: N counts groups there.

namespace supra {
namespace cpu {

template <class T>
static void groupnorm_fwd(T* y, T* rstd, const T* x, int64_t N, int64_t D, double eps) {
  for (int64_t group = 0; group < N; group++, y += D, x += D) {
    T sum = 0, squares = 0;
    for (int64_t i = 0; i < D; i++) sum += x[i];
    const T mean = sum / D;
    for (int64_t i = 0; i < D; i++) squares += (x[i] - mean) * (x[i] - mean);
    rstd[group] = 1 / std::sqrt(squares / D + static_cast<T>(eps));
    for (int64_t i = 0; i < D; i++) y[i] = (x[i] - mean) * rstd[group];
  }
}

template <class T>
static void groupnorm_bwd(T* dx, const T* dy, const T* y, const T* rstd, int64_t N, int64_t D) {
  for (int64_t group = 0; group < N; group++, dx += D, dy += D, y += D) {
    T shift = 0, pull = 0;
    for (int64_t i = 0; i < D; i++) {
      shift += dy[i] / D;
      pull += dy[i] * y[i] / D;
    }
    for (int64_t i = 0; i < D; i++) dx[i] = rstd[group] * (dy[i] - shift - y[i] * pull);
  }
}

static void groupnorm_fwd(float* y, float* rstd, const float* x, int64_t N, int64_t D, double eps) {
  parallel_for(N, row_grain(D), [&](int64_t begin, int64_t end) {
    simd().groupnorm_fwd(y + begin * D, rstd + begin, x + begin * D, end - begin, D, static_cast<float>(eps));
  });
}

static void groupnorm_bwd(float* dx, const float* dy, const float* y, const float* rstd, int64_t N,
                          int64_t D) {
  parallel_for(N, row_grain(D), [&](int64_t begin, int64_t end) {
    simd().groupnorm_bwd(dx + begin * D, dy + begin * D, y + begin * D, rstd + begin, end - begin, D);
  });
}

}  // namespace cpu

Var groupnorm(const Var& x, int64_t groups, double eps) {
  const int64_t C = x.dim(-1);
  CHECK(groups > 0 && C % groups == 0, "groupnorm: a row of %ld does not divide into %ld groups",
        static_cast<long>(C), static_cast<long>(groups));
  const int64_t N = row_count(x.value()) * groups, D = C / groups;
  const Tensor y = empty_like(x.value()), rstd = Tensor::empty({N}, sum_dtype(x.dtype()), y.device());
  by_device("groupnorm", x.value(), OVERLOADS(cpu::groupnorm_fwd), OVERLOADS(cuda::groupnorm_fwd), y, Wide{rstd}, x.value(), N, D, eps);
  return record("groupnorm", {x}, y, [=](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(y);
    by_device("groupnorm", y, OVERLOADS(cpu::groupnorm_bwd), OVERLOADS(cuda::groupnorm_bwd), dx, dy, y, Wide{rstd}, N, D);
    grads.give(0, dx);
  });
}

}  // namespace supra
