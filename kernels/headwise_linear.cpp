#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/multiply.h"
#include "kernels/ops.h"

// headwise_linear: a linear map of each head's own:  y_h = x_h w_h^T + bias_h
//   x (..., H*I)  w (H*K, I): K rows a head  bias (H*K)  y (..., H*K)
//   saved for backward: nothing but the inputs.   dx: =   dw, dbias: +=

namespace supra {
namespace {

constexpr Device gpu = Device::cuda;

struct Sizes {
  int64_t N, H, K, I;
};

// The products below for each head, its matrices `*_step` elements behind those of the head before.
template <class T>
void for_heads(const cuda::Product& p, const T* a, const T* b, T* c, bool accumulate) {
  for (int64_t h = 0; h < p.batch; h++) {
    gemm(p.ta, p.tb, p.M, p.N, p.K, a + h * p.a_step, p.lda, b + h * p.b_step, p.ldb, accumulate,
         c + h * p.c_step, p.ldc);
  }
}

// y_h (N,K) += x_h w_h^T
cuda::Product of_forward(const Sizes& n) {
  return {false, true, n.N, n.K, n.I, n.H * n.I, n.I, n.H * n.K, n.H, n.I, n.K * n.I, n.K};
}
// dx_h (N,I) = dy_h w_h
cuda::Product of_dx(const Sizes& n) {
  return {false, false, n.N, n.I, n.K, n.H * n.K, n.I, n.H * n.I, n.H, n.K, n.K * n.I, n.I};
}
// dw_h (K,I) += dy_h^T x_h
cuda::Product of_dw(const Sizes& n) {
  return {true, false, n.K, n.I, n.N, n.H * n.K, n.H * n.I, n.I, n.H, n.K, n.I, n.K * n.I};
}

}  // namespace

Var headwise_linear(const Var& x, const Var& w, const Var& bias, int64_t heads) {
  CHECK(w.shape().size() == 2 && w.dim(0) % heads == 0 && x.dim(-1) == heads * w.dim(1),
        "headwise_linear: weight is %s, input %s, expected (%ld*K, I) and (..., %ld*I)",
        to_string(w.shape()).c_str(), to_string(x.shape()).c_str(), static_cast<long>(heads),
        static_cast<long>(heads));
  check_shape("headwise_linear", "bias", bias.shape(), {w.dim(0)});
  const Sizes n = {row_count(x.value()), heads, w.dim(0) / heads, w.dim(1)};
  Shape shape = x.shape();
  shape.back() = w.dim(0);
  const Tensor y = Tensor::empty(shape, x.dtype(), x.value().device());
  repeat_row("headwise_linear", y, bias.value());
  by_device(
      "headwise_linear", y,
      [&]<class T>(T) {
        for_heads(of_forward(n), x.value().data<T>(), w.value().data<T>(), y.data<T>(), true);
      },
      [&]<class T>(T) {
        cuda::gemm(of_forward(n), x.value().data<T>(gpu), w.value().to(x.dtype()).data<T>(gpu), true,
                   y.data<T>(gpu));
      });
  return record("headwise_linear", {x, w, bias}, y,
                [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
                  const Tensor dx = grads.needs(0) ? empty_like(x) : Tensor(),
                               dw = grads.needs(1) ? grads.into(1) : Tensor();
                  by_device(
                      "headwise_linear", dy,
                      [&]<class T>(T) {
                        if (dx.defined()) for_heads(of_dx(n), dy.data<T>(), w.data<T>(), dx.data<T>(), false);
                        if (dw.defined()) for_heads(of_dw(n), dy.data<T>(), x.data<T>(), dw.data<T>(), true);
                      },
                      [&]<class T>(T) {
                        const T* from = dy.data<T>(gpu);
                        if (dx.defined())
                          cuda::gemm(of_dx(n), from, w.to(x.dtype()).data<T>(gpu), false, dx.data<T>(gpu));
                        if (dw.defined())
                          cuda::gemm(of_dw(n), from, x.data<T>(gpu), true, dw.data<float>(gpu));
                      });
                  if (dx.defined()) grads.give(0, dx);
                  if (grads.needs(2)) add_rows("headwise_linear", grads.into(2), dy);
                });
}

}  // namespace supra
