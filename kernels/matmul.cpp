#include "kernels/dispatch.h"
#include "kernels/gemv.h"
#include "kernels/multiply.h"
#include "kernels/ops.h"

// linear: y = x w^T + bias
//   x (N,C)  w (O,C)  bias (O)  y (N,O); x and w are saved for backward.   dx: =   dw, dbias: +=
//   dx = dy w,  dw = dy^T x,  dbias = sum over rows of dy
// linear_relu: the same, then max(0, y), on the GPU within the product; y is saved for its slope
//   On the CPU weights of another dtype than x are multiplied as they are stored. On the GPU they are for a
//   few rows outside of training, else they are rounded to x's dtype. Weights in less than f32 have no
//   backward.
// matmul: c = a b
//   a (M,K)  b (K,N)  c (M,N); a and b are saved for backward.   da, db: =
//   da = dc b^T,  db = a^T dc

namespace supra {

// dw (O,C) += dy^T x,  dbias (O) += the sum of dy's rows: on the GPU one product where both are asked for
static void parameter_gradients(const char* op, Grads& grads, const Tensor& dy, const Tensor& x, bool has_bias) {
  const bool bias = has_bias && grads.needs(2), both = bias && grads.needs(1) && dy.device() == Device::cuda;
  Epilogue after;
  if (both) after.sums = Tensor::empty({dy.dim(-1)}, Dtype::f32, Device::cuda);
  if (grads.needs(1)) {
    const auto [dw, add] = grads.add_or_write(1);
    multiply(op, dw, add, dy, true, x, false, after);
  }
  if (both)
    grads.give(2, after.sums);
  else if (bias)
    add_rows(op, grads.into(2), dy);
}

// y = x w^T + bias, then max(0, y) where `rectified` is set, which the gradient knows nothing of
static Var affine(const char* op, const Var& x, const Var& w, const Var& bias, bool rectified) {
  CHECK(w.value().rank() == 2 && x.value().rank() >= 1 && w.dim(1) == x.dim(-1),
        "%s: weight is %s, input %s; (O,C) and (*,C) are needed", op, to_string(w.shape()).c_str(),
        to_string(x.shape()).c_str());
  const int64_t O = w.dim(0);
  const bool has_bias = bias.defined(), on_gpu = x.value().device() == Device::cuda;
  if (has_bias) check_shape(op, "bias", bias.shape(), {O});
  Shape shape = x.shape();
  shape.back() = O;
  const Tensor y = Tensor::empty(shape, x.dtype(), x.value().device());
  const Tensor term = has_bias ? bias.value() : Tensor();
  if (!will_record({x, w, bias}) && multiply_few_on_gpu(y, x.value(), w.value(), term)) {
    if (rectified) rectify(op, y);
    return Var(y);
  }
  if (w.dtype() != x.dtype() && !on_gpu) {
    if (has_bias) repeat_row(op, y, term);
    multiply_stored(y, x.value(), w.value(), has_bias);
    if (rectified) rectify(op, y);
  } else {
    multiply(op, y, false, x.value(), false, w.value(), true, {term, rectified, {}});
  }
  if (w.dtype() != (on_gpu ? Dtype::f32 : x.dtype())) {
    refuse_gradient(format("%s with weights in %s", op, name(w.dtype())).c_str(), {x, w, bias});
    return Var(y);
  }
  return record(op, {x, w, bias}, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    if (grads.needs(0)) {
      const Tensor dx = empty_like(x);
      multiply(op, dx, false, dy, false, w, false);
      grads.give(0, dx);
    }
    parameter_gradients(op, grads, dy, x, has_bias);
  });
}

Var linear(const Var& x, const Var& w, const Var& bias) { return affine("linear", x, w, bias, false); }

Var linear_relu(const Var& x, const Var& w, const Var& bias, Slope slope) {
  const Var y = affine("linear_relu", x, w, bias, true);
  return slope == Slope::later ? y : relu_slope(y);
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
