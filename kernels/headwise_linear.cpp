#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/multiply.h"
#include "kernels/ops.h"

// headwise_linear: each head has its own linear map:  y_h = x_h w_h^T + bias_h
//   x (..., H*I)  w (H*K, I): K rows a head  bias (H*K)  y (..., H*K); x and w are saved for backward.   dx: =   dw, dbias: +=
//   dx_h = dy_h w_h,  dw_h = dy_h^T x_h,  dbias = sum over rows of dy

namespace supra {

Var headwise_linear(const Var& x, const Var& w, const Var& bias, int64_t heads) {
  constexpr const char* op = "headwise_linear";
  const long count = static_cast<long>(heads);
  CHECK(w.shape().size() == 2 && w.dim(0) % heads == 0 && x.dim(-1) == heads * w.dim(1),
        "headwise_linear: weight is %s, input %s, expected (%ld*K, I) and (..., %ld*I)", to_string(w.shape()).c_str(),
        to_string(x.shape()).c_str(), count, count);
  check_shape(op, "bias", bias.shape(), {w.dim(0)});
  const int64_t N = row_count(x.value()), H = heads, K = w.dim(0) / H, I = w.dim(1);
  Shape shape = x.shape();
  shape.back() = H * K;
  const Tensor y = Tensor::empty(shape, x.dtype(), x.value().device());
  repeat_row(op, y, bias.value());
  // y_h (N,K) += x_h w_h^T
  multiply(op, {false, true, N, K, I, H * I, I, H * K, H, I, K * I, K}, y, true, x.value(), w.value());
  return record(op, {x, w, bias}, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    if (grads.needs(0)) {
      const Tensor dx = empty_like(x);
      // dx_h (N,I) = dy_h w_h
      multiply(op, {false, false, N, I, K, H * K, I, H * I, H, K, K * I, I}, dx, false, dy, w);
      grads.give(0, dx);
    }
    // dw_h (K,I) += dy_h^T x_h
    if (grads.needs(1)) multiply(op, {true, false, K, I, N, H * K, H * I, I, H, K, I, K * I}, grads.into(1), true, dy, x);
    if (grads.needs(2)) add_rows(op, grads.into(2), dy);
  });
}

}  // namespace supra
