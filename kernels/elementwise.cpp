#include <cmath>
#include <numbers>

#include "kernels/activation.h"
#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/multiply.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// Operations on each element for itself. Saved for backward: the inputs, of relu the output.   all gradients: =
//   add    y = a + b        da = db = dy, the same tensor
//   mul    y = a b          da = dy b,  db = dy a
//   scale  y = factor x     dx = factor dy
//   relu, silu, gelu, sigmoid, log_sigmoid, tanh (activation.h)   y = f(x), dx = dy f'(x)
//   soft_cap, hard_cap   y = cap f(x / cap), of tanh and hard_tanh

namespace supra {

double activate(Activation f, double x) {
  switch (f) {
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu_erf:
      return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::log_sigmoid:
      return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x)));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::hard_tanh:
      return x < -1 ? -1 : x > 1 ? 1 : x;
  }
  fail("activation %d is unknown", static_cast<int>(f));
}

double activation_slope(Activation f, double x) {
  switch (f) {
    case Activation::relu:
      return x > 0 ? 1 : 0;
    case Activation::silu: {
      const double s = 1 / (1 + std::exp(-x));
      return s + x * s * (1 - s);
    }
    case Activation::gelu_erf: {
      const double density = std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi);
      return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) + x * density;
    }
    case Activation::gelu_tanh: {
      const double c = std::sqrt(2 / std::numbers::pi), t = std::tanh(c * (x + 0.044715 * x * x * x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
    }
    case Activation::sigmoid: {
      const double e = std::exp(-std::abs(x));
      return e / ((1 + e) * (1 + e));
    }
    case Activation::log_sigmoid:
      return 1 / (1 + std::exp(x));
    case Activation::tanh: {
      const double t = std::tanh(x);
      return 1 - t * t;
    }
    case Activation::hard_tanh:
      return std::abs(x) > 1 ? 0 : 1;
  }
  fail("activation %d is unknown", static_cast<int>(f));
}

namespace cpu {

static void add(double* y, const double* a, const double* b, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}
static void mul(double* y, const double* a, const double* b, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}
static void scale(double* y, const double* x, double factor, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] = factor * x[i];
}
static void activation_fwd(double* y, const double* x, int64_t n, Activation f) {
  for (int64_t i = 0; i < n; i++) y[i] = activate(f, x[i]);
}

static void activation_bwd(double* dx, const double* dy, const double* x, int64_t n, Activation f) {
  for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * activation_slope(f, x[i]);
}

// f(begin, n) on stretches of all elements
template <class F>
static void in_stretches(int64_t n, F f) {
  parallel_for(n, row_grain(1), [=](int64_t begin, int64_t end) { f(begin, end - begin); });
}

static void add(float* y, const float* a, const float* b, int64_t n) {
  in_stretches(n, [=](int64_t i, int64_t m) { simd().add(y + i, a + i, b + i, m); });
}
static void mul(float* y, const float* a, const float* b, int64_t n) {
  in_stretches(n, [=](int64_t i, int64_t m) { simd().mul(y + i, a + i, b + i, m); });
}
static void scale(float* y, const float* x, double factor, int64_t n) {
  in_stretches(n, [=](int64_t i, int64_t m) { simd().scale(y + i, x + i, static_cast<float>(factor), m); });
}

static void activation_fwd(float* y, const float* x, int64_t n, Activation f) {
  in_stretches(n, [=](int64_t i, int64_t m) { simd().activation_fwd(y + i, x + i, m, f); });
}

static void activation_bwd(float* dx, const float* dy, const float* x, int64_t n, Activation f) {
  in_stretches(n, [=](int64_t i, int64_t m) { simd().activation_bwd(dx + i, dy + i, x + i, m, f); });
}

}  // namespace cpu

static Tensor product(const Tensor& a, const Tensor& b) {
  const Tensor y = empty_like(a);
  by_device("mul", a, OVERLOADS(cpu::mul), OVERLOADS(cuda::mul), y, a, b, y.numel());
  return y;
}

static Tensor multiple(const Tensor& x, double factor) {
  const Tensor y = empty_like(x);
  by_device("scale", x, OVERLOADS(cpu::scale), OVERLOADS(cuda::scale), y, x, factor, y.numel());
  return y;
}

Var add(const Var& a, const Var& b) {
  check_shape("add", "b", b.shape(), a.shape());
  const Tensor y = empty_like(a.value());
  by_device("add", y, OVERLOADS(cpu::add), OVERLOADS(cuda::add), y, a.value(), b.value(), y.numel());
  return record("add", {a, b}, y, [](const Tensor& dy, Grads& grads) {
    grads.give(0, dy);
    grads.give(1, dy);
  });
}

Var mul(const Var& a, const Var& b) {
  check_shape("mul", "b", b.shape(), a.shape());
  return record("mul", {a, b}, product(a.value(), b.value()),
                [a = a.value(), b = b.value()](const Tensor& dy, Grads& grads) {
                  if (grads.needs(0)) grads.give(0, product(dy, b));
                  if (grads.needs(1)) grads.give(1, product(dy, a));
                });
}

Var scale(const Var& x, double factor) {
  return record("scale", {x}, multiple(x.value(), factor),
                [factor](const Tensor& dy, Grads& grads) { grads.give(0, multiple(dy, factor)); });
}

// Backward: dx = dy f'(x)
static auto slope(const char* op, const Tensor& x, Activation f) {
  return [=](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x);
    by_device(op, x, OVERLOADS(cpu::activation_bwd), OVERLOADS(cuda::activation_bwd), dx, dy, x, dx.numel(), f);
    grads.give(0, dx);
  };
}

static void activate_all(const char* op, const Tensor& y, const Tensor& x, Activation f) {
  by_device(op, x, OVERLOADS(cpu::activation_fwd), OVERLOADS(cuda::activation_fwd), y, x, y.numel(), f);
}

static Var activation(const char* op, const Var& x, Activation f) {
  const Tensor y = empty_like(x.value());
  activate_all(op, y, x.value(), f);
  // relu's slope can be told from y, which is kept anyway by who reads it
  return record(op, {x}, y, slope(op, f == Activation::relu ? y : x.value(), f));
}

Var relu_slope(const Var& y) {
  return record("relu_slope", {y}, y.value(), slope("relu_slope", y.value(), Activation::relu));
}

void rectify(const char* op, const Tensor& y) { activate_all(op, y, y, Activation::relu); }

static void scale_all(const char* op, const Tensor& y, double factor) {
  by_device(op, y, OVERLOADS(cpu::scale), OVERLOADS(cuda::scale), y, y, factor, y.numel());
}

Tensor capped(const char* op, const Tensor& u, double cap) {
  const Tensor y = empty_like(u);
  activate_all(op, y, u, Activation::tanh);
  scale_all(op, y, cap);
  return y;
}

void through_cap(const char* op, const Tensor& dy, const Tensor& u, double cap) {
  by_device(op, dy, OVERLOADS(cpu::activation_bwd), OVERLOADS(cuda::activation_bwd), dy, dy, u, dy.numel(), Activation::tanh);
  scale_all(op, dy, cap);
}

Var relu(const Var& x) { return activation("relu", x, Activation::relu); }
Var silu(const Var& x) { return activation("silu", x, Activation::silu); }

Var sigmoid(const Var& x) { return activation("sigmoid", x, Activation::sigmoid); }
Var tanh(const Var& x) { return activation("tanh", x, Activation::tanh); }
Var soft_cap(const Var& x, double cap) { return scale(tanh(scale(x, 1 / cap)), cap); }
Var hard_cap(const Var& x, double cap) { return scale(activation("hard_cap", scale(x, 1 / cap), Activation::hard_tanh), cap); }
Var log_sigmoid(const Var& x) { return activation("log_sigmoid", x, Activation::log_sigmoid); }

Var gelu(const Var& x, Gelu kind) {
  return activation("gelu", x, kind == Gelu::erf ? Activation::gelu_erf : Activation::gelu_tanh);
}

}  // namespace supra
