#include <cmath>

#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/row_sums.h"
#include "kernels/simd.h"

// layernorm (Ba, Kiros and Hinton, arXiv 1607.06450): y = w n + b,  n = (x - mean(x)) rstd,  rstd = 1 /
// sqrt(var(x) + eps)
//   x (N,C)  w (C)  b (C)  y (N,C)  mean, rstd (N) saved for backward.   dx: =   dw, db: +=
//   dx = rstd (w dy - mean(w dy) - n mean(w dy n)),  dw = sum over rows of dy n,  db = sum over rows of dy
// Either of w and b may be missing: nullptr.

namespace supra {
namespace cpu {

template <class T>
static void layernorm_fwd(T* y, T* mean, T* rstd, const T* x, const T* w, const T* b, int64_t N, int64_t C,
                          double eps) {
  for (int64_t row = 0; row < N; row++, y += C, x += C) {
    T sum = 0, squares = 0;
    for (int64_t i = 0; i < C; i++) sum += x[i];
    const T m = mean[row] = sum / C;
    for (int64_t i = 0; i < C; i++) squares += (x[i] - m) * (x[i] - m);
    const T r = rstd[row] = 1 / std::sqrt(squares / C + static_cast<T>(eps));
    for (int64_t i = 0; i < C; i++) y[i] = (x[i] - m) * r * (w ? w[i] : 1) + (b ? b[i] : 0);
  }
}

template <class T>
static void layernorm_bwd(T* dx, T* dw, T* db, const T* dy, const T* x, const T* w, const T* mean,
                          const T* rstd, int64_t N, int64_t C) {
  for (int64_t row = 0; row < N; row++, dx += C, dy += C, x += C) {
    const T m = mean[row], r = rstd[row];
    T shift = 0, pull = 0;
    for (int64_t i = 0; i < C; i++) {
      const T g = dy[i] * (w ? w[i] : 1);
      shift += g / C;
      pull += g * (x[i] - m) * r / C;
    }
    for (int64_t i = 0; i < C; i++) {
      const T n = (x[i] - m) * r;
      dx[i] = r * (dy[i] * (w ? w[i] : 1) - shift - n * pull);
      if (dw) dw[i] += dy[i] * n;
      if (db) db[i] += dy[i];
    }
  }
}

static void layernorm_fwd(float* y, float* mean, float* rstd, const float* x, const float* w, const float* b,
                          int64_t N, int64_t C, double eps) {
  parallel_for(N, row_grain(C), [&](int64_t begin, int64_t end) {
    simd().layernorm_fwd(y + begin * C, mean + begin, rstd + begin, x + begin * C, w, b, end - begin, C,
                         static_cast<float>(eps));
  });
}

static void layernorm_bwd(float* dx, float* dw, float* db, const float* dy, const float* x, const float* w,
                          const float* mean, const float* rstd, int64_t N, int64_t C) {
  add_row_sums({dw, db}, N, C, [&](int64_t begin, int64_t end, float* partial) {
    simd().layernorm_bwd(dx + begin * C, partial, partial + C, dy + begin * C, x + begin * C, w, mean + begin,
                         rstd + begin, end - begin, C);
  });
}

}  // namespace cpu

Var layernorm(const Var& x, const Var& w, const Var& b, double eps) {
  const int64_t C = x.dim(-1), N = row_count(x.value());
  if (w.defined()) check_shape("layernorm", "w", w.shape(), {C});
  if (b.defined()) check_shape("layernorm", "b", b.shape(), {C});
  const Tensor scale = w.defined() ? w.value() : Tensor(), offset = b.defined() ? b.value() : Tensor();
  const Tensor y = empty_like(x.value()), mean = Tensor::empty({N}, sum_dtype(x.dtype()), y.device());
  const Tensor rstd = empty_like(mean);
  by_device("layernorm", x.value(), OVERLOADS(cpu::layernorm_fwd), OVERLOADS(cuda::layernorm_fwd), y, Wide{mean}, Wide{rstd},
            x.value(), Wide{scale}, Wide{offset}, N, C, eps);
  return record("layernorm", {x, w, b}, y, [=, x = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x), dw = grads.needs(1) ? grads.into(1) : Tensor(),
                 db = grads.needs(2) ? grads.into(2) : Tensor();
    by_device("layernorm", x, OVERLOADS(cpu::layernorm_bwd), OVERLOADS(cuda::layernorm_bwd), dx, Wide{dw}, Wide{db}, dy, x,
              Wide{scale}, Wide{mean}, Wide{rstd}, N, C);
    grads.give(0, dx);
  });
}

}  // namespace supra
