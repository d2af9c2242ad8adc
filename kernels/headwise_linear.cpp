#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/ops.h"

// headwise_linear: a linear map of each head's own:  y_h = x_h w_h^T + bias_h
//   x (..., H*I)  w (H*K, I): K rows a head  bias (H*K)  y (..., H*K)
//   saved for backward: nothing but the inputs.   dx: =   dw, dbias: +=

namespace supra {

template <class T>
static void add_bias(T* y, const T* bias, int64_t N, int64_t C) {
  for (int64_t n = 0; n < N; n++) {
    for (int64_t c = 0; c < C; c++) y[n * C + c] += bias[c];
  }
}

template <class T>
static void headwise_fwd(T* y, const T* x, const T* w, int64_t N, int64_t H, int64_t K, int64_t I) {
  for (int64_t h = 0; h < H; h++) gemm(false, true, N, K, I, x + h * I, H * I, w + h * K * I, I, false, y + h * K, H * K);
}

template <class T>
static void headwise_bwd(T* dx, T* dw, const T* dy, const T* x, const T* w, int64_t N, int64_t H, int64_t K, int64_t I) {
  for (int64_t h = 0; h < H; h++) {
    const T* dy_h = dy + h * K;
    if (dx) gemm(false, false, N, I, K, dy_h, H * K, w + h * K * I, I, false, dx + h * I, H * I);
    if (dw) gemm(true, false, K, I, N, dy_h, H * K, x + h * I, H * I, true, dw + h * K * I, I);
  }
}

Var headwise_linear(const Var& x, const Var& w, const Var& bias, int64_t heads) {
  CHECK(w.shape().size() == 2 && w.dim(0) % heads == 0 && x.dim(-1) == heads * w.dim(1),
        "headwise_linear: weight is %s, input %s, expected (%ld*K, I) and (..., %ld*I)", to_string(w.shape()).c_str(),
        to_string(x.shape()).c_str(), static_cast<long>(heads), static_cast<long>(heads));
  check_shape("headwise_linear", "bias", bias.shape(), {w.dim(0)});
  const int64_t N = row_count(x.value()), H = heads, I = w.dim(1), K = w.dim(0) / heads;
  Shape shape = x.shape();
  shape.back() = H * K;
  const Tensor y = Tensor::empty(shape, x.dtype());
  by_dtype("headwise_linear", x.dtype(), [&]<class T>(T) {
    headwise_fwd(y.data<T>(), x.value().data<T>(), w.value().data<T>(), N, H, K, I);
    add_bias(y.data<T>(), bias.value().data<T>(), N, H * K);
  });
  return record("headwise_linear", {x, w, bias}, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    by_dtype("headwise_linear", dy.dtype(), [&]<class T>(T) {
      const Tensor dx = grads.needs(0) ? empty_like(x) : Tensor();
      T* dw = grads.needs(1) ? grads.into(1).data<T>() : nullptr;
      headwise_bwd(data_or_null<T>(dx), dw, dy.data<T>(), x.data<T>(), w.data<T>(), N, H, K, I);
      if (dx.defined()) grads.give(0, dx);
      if (grads.needs(2)) {
        T* db = grads.into(2).data<T>();
        for (int64_t n = 0; n < N; n++) add_bias(db, dy.data<T>() + n * H * K, 1, H * K);
      }
    });
  });
}

}  // namespace supra
