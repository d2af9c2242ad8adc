#include "kernels/cuda_multiply.h"
#include "kernels/gemv.h"
#include "kernels/ops.h"

// linear: y = x w^T + bias
//   x (N,C)  w (O,C)  bias (O)  y (N,O); x and w are saved for backward.   dx: =   dw, dbias: +=
//   dx = dy w,  dw = dy^T x,  dbias = sum over rows of dy
//   On the CPU weights of another dtype than x are multiplied as they are stored. On the GPU they are so for a few rows outside of
//   training; for more rows they are rounded to x's dtype. Weights in less than f32 have no backward.
// linear_relu: the same, then max(0, y), on the GPU within the product; y is saved for its slope
// matmul: c = a b
//   a (M,K)  b (K,N)  c (M,N); a and b are saved for backward.   da, db: =
//   da = dc b^T,  db = a^T dc

namespace supra {

// The gradient of x: op(a) op(b).
static Tensor product(const char* op, const Tensor& x, const Tensor& a, bool ta, const Tensor& b, bool tb) {
  const Tensor dx = empty_like(x);
  multiply(op, dx, false, a, ta, b, tb);
  return dx;
}

// dw (O,C) += dy^T x,  dbias (O) += the sum of dy's rows: on the GPU one product if both are needed
static void parameter_gradients(const char* op, Grads& grads, const Tensor& dy, const Tensor& x, bool has_bias) {
  const bool bias = has_bias && grads.needs(2), both = bias && grads.needs(1) && dy.device() == Device::cuda;
  const Tensor sums = both ? Tensor::empty({dy.dim(-1)}, Dtype::f32, Device::cuda) : Tensor();
  if (grads.needs(1)) {
    const auto [dw, add] = grads.add_or_write(1);
    multiply(op, dw, add, dy, true, x, false, {{}, false, sums});
  }
  if (both)
    grads.give(2, sums);
  else if (bias)
    add_rows(op, grads.into(2), dy);
}

// y = x w^T + bias, then max(0, y) if `rectified` is set; the gradient leaves the relu out
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
  const bool few_on_gpu = !will_record({x, w, bias}) && multiply_few_on_gpu(y, x.value(), w.value(), term);
  const bool stored = !on_gpu && w.dtype() != x.dtype();
  if (stored) {
    if (has_bias) repeat_row(op, y, term);
    multiply_stored(y, x.value(), w.value(), has_bias);
  }
  if (!few_on_gpu && !stored)
    multiply(op, y, false, x.value(), false, w.value(), true, {term, rectified, {}});
  else if (rectified)
    rectify(op, y);
  if (w.dtype() != (on_gpu ? Dtype::f32 : x.dtype()))
    refuse_gradient(format("%s with weights in %s", op, name(w.dtype())).c_str(), {x, w, bias});
  return record(op, {x, w, bias}, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    if (grads.needs(0)) grads.give(0, product(op, x, dy, false, w, false));
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
    if (grads.needs(0)) grads.give(0, product("matmul", a, dc, false, b, true));
    if (grads.needs(1)) grads.give(1, product("matmul", b, a, true, dc, false));
  });
}

}  // namespace supra
