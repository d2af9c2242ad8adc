#include <cmath>
#include <numbers>

#include "kernels/activation.h"
#include "kernels/by_rows.h"
#include "kernels/multiply.h"
#include "kernels/ops.h"

// Operations on each element for itself. Saved for backward: the inputs, of relu the output.   all gradients: =
//   add    y = a + b        da = db = dy, the same tensor
//   mul    y = a b          da = dy b,  db = dy a
//   scale  y = factor x     dx = factor dy
//   relu, silu, gelu, sigmoid, log_sigmoid, tanh (activation.h)   y = f(x), dx = dy f'(x)
//   soft_cap, hard_cap   y = cap f(x / cap), of tanh and hard_tanh

namespace supra {

double activate(Activation f, double x) {
  switch (f) {
    case Activation::relu: return x < 0 ? 0 : x;
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu_erf: return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
    case Activation::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::sigmoid: return 1 / (1 + std::exp(-x));
    case Activation::log_sigmoid: return std::min(x, 0.0) - std::log1p(std::exp(-std::abs(x)));
    case Activation::tanh: return std::tanh(x);
    case Activation::hard_tanh: return x < -1 ? -1 : x > 1 ? 1 : x;
  }
  fail("activation %d is unknown", static_cast<int>(f));
}

double activation_slope(Activation f, double x) {
  switch (f) {
    case Activation::relu: return x > 0 ? 1 : 0;
    case Activation::silu: {
      const double s = 1 / (1 + std::exp(-x));
      return s + x * s * (1 - s);
    }
    case Activation::gelu_erf:
      return 0.5 * (1 + std::erf(x / std::numbers::sqrt2)) + x * (std::exp(-0.5 * x * x) / std::sqrt(2 * std::numbers::pi));
    case Activation::gelu_tanh: {
      const double c = std::sqrt(2 / std::numbers::pi), t = std::tanh(c * (x + 0.044715 * x * x * x));
      return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x);
    }
    case Activation::sigmoid: {
      const double e = std::exp(-std::abs(x));
      return e / ((1 + e) * (1 + e));
    }
    case Activation::log_sigmoid: return 1 / (1 + std::exp(x));
    case Activation::tanh: return 1 - std::tanh(x) * std::tanh(x);
    case Activation::hard_tanh: return std::abs(x) > 1 ? 0 : 1;
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

}  // namespace cpu

// The kernels on whole tensors: an element is a row. y may be x, and dx may be dy.
static void scale_all(const char* op, const Tensor& y, const Tensor& x, double factor) {
  by_rows(op, y, y.numel(), 1, KERNELS(scale), y, x, factor, Count{y.numel()});
}
static void activate_all(const char* op, const Tensor& y, const Tensor& x, Activation f) {
  by_rows(op, y, y.numel(), 1, KERNELS(activation_fwd), y, x, Count{y.numel()}, f);
}
static void activate_bwd(const char* op, const Tensor& dx, const Tensor& dy, const Tensor& x, Activation f) {
  by_rows(op, dx, dx.numel(), 1, KERNELS(activation_bwd), dx, dy, x, Count{dx.numel()}, f);
}

Var add(const Var& a, const Var& b) {
  check_shape("add", "b", b.shape(), a.shape());
  const Tensor y = empty_like(a.value());
  by_rows("add", y, y.numel(), 1, KERNELS(add), y, a.value(), b.value(), Count{y.numel()});
  return record("add", {a, b}, y, [](const Tensor& dy, Grads& grads) {
    grads.give(0, dy);
    grads.give(1, dy);
  });
}

Var mul(const Var& a, const Var& b) {
  check_shape("mul", "b", b.shape(), a.shape());
  const auto product = [](const Tensor& s, const Tensor& t) {
    const Tensor y = empty_like(s);
    by_rows("mul", y, y.numel(), 1, KERNELS(mul), y, s, t, Count{y.numel()});
    return y;
  };
  const Tensor &s = a.value(), &t = b.value();
  return record("mul", {a, b}, product(s, t), [product, s, t](const Tensor& dy, Grads& grads) {
    if (grads.needs(0)) grads.give(0, product(dy, t));
    if (grads.needs(1)) grads.give(1, product(dy, s));
  });
}

Var scale(const Var& x, double factor) {
  const auto multiple = [factor](const Tensor& x) {
    const Tensor y = empty_like(x);
    scale_all("scale", y, x, factor);
    return y;
  };
  return record("scale", {x}, multiple(x.value()), [multiple](const Tensor& dy, Grads& grads) { grads.give(0, multiple(dy)); });
}

// Backward: dx = dy f'(x)
static auto slope(const char* op, const Tensor& x, Activation f) {
  return [=](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x);
    activate_bwd(op, dx, dy, x, f);
    grads.give(0, dx);
  };
}

static Var activation(const char* op, const Var& x, Activation f) {
  const Tensor y = empty_like(x.value());
  activate_all(op, y, x.value(), f);
  // relu's slope can be told from y, which the op that reads it keeps anyway
  return record(op, {x}, y, slope(op, f == Activation::relu ? y : x.value(), f));
}

Var relu_slope(const Var& y) { return record("relu_slope", {y}, y.value(), slope("relu_slope", y.value(), Activation::relu)); }

void rectify(const char* op, const Tensor& y) { activate_all(op, y, y, Activation::relu); }

Tensor capped(const char* op, const Tensor& u, double cap) {
  const Tensor y = empty_like(u);
  activate_all(op, y, u, Activation::tanh);
  scale_all(op, y, y, cap);
  return y;
}

void through_cap(const char* op, const Tensor& dy, const Tensor& u, double cap) {
  activate_bwd(op, dy, dy, u, Activation::tanh);
  scale_all(op, dy, dy, cap);
}

Var relu(const Var& x) { return activation("relu", x, Activation::relu); }
Var silu(const Var& x) { return activation("silu", x, Activation::silu); }
Var sigmoid(const Var& x) { return activation("sigmoid", x, Activation::sigmoid); }
Var tanh(const Var& x) { return activation("tanh", x, Activation::tanh); }
Var log_sigmoid(const Var& x) { return activation("log_sigmoid", x, Activation::log_sigmoid); }
Var gelu(const Var& x, Gelu kind) {
  return activation("gelu", x, kind == Gelu::erf ? Activation::gelu_erf : Activation::gelu_tanh);
}
Var soft_cap(const Var& x, double cap) { return scale(tanh(scale(x, 1 / cap)), cap); }
Var hard_cap(const Var& x, double cap) { return scale(activation("hard_cap", scale(x, 1 / cap), Activation::hard_tanh), cap); }

}  // namespace supra
