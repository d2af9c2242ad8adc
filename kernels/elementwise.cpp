#include <cmath>
#include <numbers>

#include "kernels/activation.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// Operations on each element for itself. Saved for backward: the inputs.   all gradients: =
//   add    y = a + b        da = db = dy, the same tensor
//   mul    y = a b          da = dy b,  db = dy a
//   scale  y = factor x     dx = factor dy
//   relu, silu, gelu (activation.h)   y = f(x), dx = dy f'(x)

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
  }
  fail("activation %d is unknown", static_cast<int>(f));
}

namespace cpu {

static void activation_fwd(double* y, const double* x, int64_t n, Activation f) {
  for (int64_t i = 0; i < n; i++) y[i] = activate(f, x[i]);
}

static void activation_bwd(double* dx, const double* dy, const double* x, int64_t n, Activation f) {
  for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * activation_slope(f, x[i]);
}

static void activation_fwd(float* y, const float* x, int64_t n, Activation f) {
  simd().activation_fwd(y, x, n, f);
}

static void activation_bwd(float* dx, const float* dy, const float* x, int64_t n, Activation f) {
  simd().activation_bwd(dx, dy, x, n, f);
}

}  // namespace cpu

// y[i] = f(x[i]...)
template <class F, class... In>
static Tensor map(const char* op, F f, const Tensor& first, const In&... others) {
  const Tensor y = empty_like(first);
  by_dtype(op, first.dtype(), [&]<class T>(T) {
    auto loop = [&f, out = y.data<T>()](int64_t begin, int64_t end, const auto*... x) {
      for (int64_t i = begin; i < end; i++) out[i] = f(x[i]...);
    };
    parallel_for(y.numel(), row_grain(1), [&](int64_t begin, int64_t end) {
      loop(begin, end, first.template data<T>(), others.template data<T>()...);
    });
  });
  return y;
}

static Tensor product(const char* op, const Tensor& a, const Tensor& b) {
  return map(
      op, [](auto x, auto y) { return x * y; }, a, b);
}

static Tensor multiple(const char* op, const Tensor& x, double factor) {
  return map(
      op, [factor](auto v) { return v * static_cast<decltype(v)>(factor); }, x);
}

Var add(const Var& a, const Var& b) {
  check_shape("add", "b", b.shape(), a.shape());
  const Tensor y = map(
      "add", [](auto x, auto y) { return x + y; }, a.value(), b.value());
  return record("add", {a, b}, y, [](const Tensor& dy, Grads& grads) {
    grads.give(0, dy);
    grads.give(1, dy);
  });
}

Var mul(const Var& a, const Var& b) {
  check_shape("mul", "b", b.shape(), a.shape());
  const Tensor y = product("mul", a.value(), b.value());
  return record("mul", {a, b}, y, [a = a.value(), b = b.value()](const Tensor& dy, Grads& grads) {
    if (grads.needs(0)) grads.give(0, product("mul", dy, b));
    if (grads.needs(1)) grads.give(1, product("mul", dy, a));
  });
}

Var scale(const Var& x, double factor) {
  return record("scale", {x}, multiple("scale", x.value(), factor),
                [factor](const Tensor& dy, Grads& grads) { grads.give(0, multiple("scale", dy, factor)); });
}

static Var activation(const char* op, const Var& x, Activation f) {
  const Tensor y = empty_like(x.value());
  by_dtype(op, x.dtype(), [&, in = x.value()]<class T>(T) {
    parallel_for(y.numel(), row_grain(1), [&](int64_t begin, int64_t end) {
      cpu::activation_fwd(y.data<T>() + begin, in.data<T>() + begin, end - begin, f);
    });
  });
  return record(op, {x}, y, [=, x = x.value()](const Tensor& dy, Grads& grads) {
    const Tensor dx = empty_like(x);
    by_dtype(op, x.dtype(), [&]<class T>(T) {
      parallel_for(x.numel(), row_grain(1), [&](int64_t begin, int64_t end) {
        cpu::activation_bwd(dx.data<T>() + begin, dy.data<T>() + begin, x.data<T>() + begin, end - begin, f);
      });
    });
    grads.give(0, dx);
  });
}

Var relu(const Var& x) { return activation("relu", x, Activation::relu); }
Var silu(const Var& x) { return activation("silu", x, Activation::silu); }

Var gelu(const Var& x, Gelu kind) {
  return activation("gelu", x, kind == Gelu::erf ? Activation::gelu_erf : Activation::gelu_tanh);
}

}  // namespace supra
