#include "kernels/dispatch.h"
#include "kernels/gemm.h"
#include "kernels/gemv.h"
#include "kernels/ops.h"
#include "kernels/row_sums.h"

// linear: y = x w^T + bias
//   x (N,C)  w (O,C)  bias (O)  y (N,O); x and w are saved for backward.   dx: =   dw, dbias: +=
//   dx = dy w,  dw = dy^T x,  dbias = sum over rows of dy
//   w of another dtype than x is multiplied as it is stored, without a backward
// matmul: c = a b
//   a (M,K)  b (K,N)  c (M,N); a and b are saved for backward.   da, db: =
//   da = dc b^T,  db = a^T dc

namespace supra {
namespace {

template <class T>
void add_columns(T* sums, const T* x, int64_t N, int64_t C) {
  for (int64_t row = 0; row < N; row++) {
    for (int64_t i = 0; i < C; i++) sums[i] += x[row * C + i];
  }
}

// sums (C) += the sum over N rows of x (N,C)
void column_sums(double* sums, const double* x, int64_t N, int64_t C) { add_columns(sums, x, N, C); }
void column_sums(float* sums, const float* x, int64_t N, int64_t C) {
  add_row_sums({sums}, N, C, [&](int64_t begin, int64_t end, float* partial) {
    add_columns(partial, x + begin * C, end - begin, C);
  });
}

}  // namespace

Var linear(const Var& x, const Var& w, const Var& bias) {
  CHECK(w.value().rank() == 2 && x.value().rank() >= 1 && w.dim(1) == x.dim(-1),
        "linear: weight is %s, input %s; (O,C) and (*,C) are needed", to_string(w.shape()).c_str(),
        to_string(x.shape()).c_str());
  const int64_t O = w.dim(0), C = w.dim(1);
  if (bias.defined()) check_shape("linear", "bias", bias.shape(), {O});
  const int64_t N = numel(Shape(x.shape().begin(), x.shape().end() - 1));
  Shape shape = x.shape();
  shape.back() = O;
  const Tensor y = Tensor::empty(shape, x.dtype(), x.value().device());
  const Tensor term = bias.defined() ? bias.value() : Tensor();
  if (!will_record({x, w, bias}) && multiply_few_on_gpu(y, x.value(), w.value(), term)) return Var(y);
  by_dtype("linear", x.dtype(), [&]<class T>(T) {
    T* out = y.data<T>();
    for (int64_t row = 0; bias.defined() && row < N; row++)
      std::copy_n(bias.value().data<T>(), O, out + row * O);
    if (w.dtype() != x.dtype()) return multiply_stored(y, x.value(), w.value(), bias.defined());
    gemm(false, true, N, O, C, x.value().data<T>(), C, w.value().data<T>(), C, bias.defined(), out, O);
  });
  if (w.dtype() != x.dtype()) {
    refuse_gradient(format("linear with weights in %s", name(w.dtype())).c_str(), {x, w, bias});
    return Var(y);
  }
  std::vector<Var> inputs = {x, w};
  if (bias.defined()) inputs.push_back(bias);
  const bool has_bias = bias.defined();
  return record("linear", inputs, y, [=, x = x.value(), w = w.value()](const Tensor& dy, Grads& grads) {
    by_dtype("linear", x.dtype(), [&]<class T>(T) {
      if (grads.needs(0)) {
        const Tensor dx = empty_like(x);
        gemm(false, false, N, C, O, dy.data<T>(), O, w.data<T>(), C, false, dx.data<T>(), C);
        grads.give(0, dx);
      }
      if (grads.needs(1)) {
        const auto [dw, add] = grads.add_or_write(1);
        gemm(true, false, O, C, N, dy.data<T>(), O, x.data<T>(), C, add, dw.data<T>(), C);
      }
      if (has_bias && grads.needs(2)) column_sums(grads.into(2).data<T>(), dy.data<T>(), N, O);
    });
  });
}

Var matmul(const Var& a, const Var& b) {
  CHECK(a.value().rank() == 2 && b.value().rank() == 2 && a.dim(1) == b.dim(0),
        "matmul: the factors are %s and %s, (M,K) and (K,N) are needed", to_string(a.shape()).c_str(),
        to_string(b.shape()).c_str());
  const int64_t M = a.dim(0), K = a.dim(1), N = b.dim(1);
  const Tensor c = Tensor::empty({M, N}, a.dtype());
  by_dtype("matmul", a.dtype(), [&]<class T>(T) {
    gemm(false, false, M, N, K, a.value().data<T>(), K, b.value().data<T>(), N, false, c.data<T>(), N);
  });
  return record("matmul", {a, b}, c, [=, a = a.value(), b = b.value()](const Tensor& dc, Grads& grads) {
    by_dtype("matmul", a.dtype(), [&]<class T>(T) {
      if (grads.needs(0)) {
        const Tensor da = empty_like(a);
        gemm(false, true, M, K, N, dc.data<T>(), N, b.data<T>(), N, false, da.data<T>(), K);
        grads.give(0, da);
      }
      if (grads.needs(1)) {
        const Tensor db = empty_like(b);
        gemm(true, false, K, N, M, a.data<T>(), K, dc.data<T>(), N, false, db.data<T>(), N);
        grads.give(1, db);
      }
    });
  });
}

}  // namespace supra
