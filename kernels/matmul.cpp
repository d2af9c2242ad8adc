#include "kernels/dispatch.h"
#include "kernels/gemv.h"
#include "kernels/multiply.h"
#include "kernels/ops.h"

// linear: y = x w^T + bias
//   x (N,C)  w (O,C)  bias (O)  y (N,O); x and w are saved for backward.   dx: =   dw, dbias: +=
//   dx = dy w,  dw = dy^T x,  dbias = sum over rows of dy
//   On the CPU weights of another dtype than x are multiplied as they are stored. On the GPU they are for a
//   few rows outside of training, else they are rounded to x's dtype. Weights in less than f32 have no
//   backward.
// matmul: c = a b
//   a (M,K)  b (K,N)  c (M,N); a and b are saved for backward.   da, db: =
//   da = dc b^T,  db = a^T dc

namespace supra {

Var linear(const Var& x, const Var& w, const Var& bias) {
  CHECK(w.value().rank() == 2 && x.value().rank() >= 1 && w.dim(1) == x.dim(-1),
        "linear: weight is %s, input %s; (O,C) and (*,C) are needed", to_string(w.shape()).c_str(),
        to_string(x.shape()).c_str());
  const int64_t O = w.dim(0);
  const bool has_bias = bias.defined(), on_gpu = x.value().device() == Device::cuda;
  if (has_bias) check_shape("linear", "bias", bias.shape(), {O});
  Shape shape = x.shape();
  shape.back() = O;
  const Tensor y = Tensor::empty(shape, x.dtype(), x.value().device());
  const Tensor term = has_bias ? bias.value() : Tensor();
  if (!will_record({x, w, bias}) && multiply_few_on_gpu(y, x.value(), w.value(), term)) return Var(y);
  if (w.dtype() != x.dtype() && !on_gpu) {
    if (has_bias) repeat_row("linear", y, term);
    multiply_stored(y, x.value(), w.value(), has_bias);
  } else {
    multiply("linear", y, false, x.value(), false, w.value(), true, term);
  }
  if (w.dtype() != (on_gpu ? Dtype::f32 : x.dtype())) {
    refuse_gradient(format("linear with weights in %s", name(w.dtype())).c_str(), {x, w, bias});
    return Var(y);
  }
  std::vector<Var> inputs = {x, w};
  if (has_bias) inputs.push_back(bias);
  return record("linear", inputs, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    if (grads.needs(0)) {
      const Tensor dx = empty_like(x);
      multiply("linear", dx, false, dy, false, w, false);
      grads.give(0, dx);
    }
    if (grads.needs(1)) {
      const auto [dw, add] = grads.add_or_write(1);
      multiply("linear", dw, add, dy, true, x, false);
    }
    if (has_bias && grads.needs(2)) add_rows("linear", grads.into(2), dy);
  });
}

Var matmul(const Var& a, const Var& b) {
  CHECK(a.value().rank() == 2 && b.value().rank() == 2 && a.dim(1) == b.dim(0),
        "matmul: the factors are %s and %s, (M,K) and (K,N) are needed", to_string(a.shape()).c_str(),
        to_string(b.shape()).c_str());
  const Tensor c = Tensor::empty({a.dim(0), b.dim(1)}, a.dtype(), a.value().device());
  multiply("matmul", c, false, a.value(), false, b.value(), false);
  return record("matmul", {a, b}, c, [=, a = a.value(), b = b.value()](const Tensor& dc, Grads& grads) {
    if (grads.needs(0)) {
      const Tensor da = empty_like(a);
      multiply("matmul", da, false, dc, false, b, true);
      grads.give(0, da);
    }
    if (grads.needs(1)) {
      const Tensor db = empty_like(b);
      multiply("matmul", db, false, a, true, dc, false);
      grads.give(1, db);
    }
  });
}

}  // namespace supra
