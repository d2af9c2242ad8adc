#pragma once
#include "kernels/activation.h"
#include "kernels/vec.h"

// The activations of activation.h on vectors, for .simd.cpp files.

namespace supra::SUPRA_LEVEL {
namespace {

struct Relu {
  // NaN stays NaN
  static Vec value(Vec x) { return max(x, Vec{}); }
  static Vec slope(Vec x) { return select(x > 0.0f, broadcast(1.0f), Vec{}); }
};

struct Silu {
  static Vec value(Vec x) { return x * sigmoid(x); }
  static Vec slope(Vec x) {
    // 1 - s cancels where s is near 1, e s is infinity times zero at the other end
    const Vec e = exp(-x), s = 1.0f / (1.0f + e), complement = select(x > 0.0f, e * s, 1.0f - s);
    return s * (1.0f + x * complement);
  }
};

struct GeluErf {
  static Vec cdf(Vec x) { return 0.5f + 0.5f * erf(x * 0.707106781f); }
  static Vec value(Vec x) { return x * cdf(x); }
  // 0.39894228 = 1 / sqrt(2 pi)
  static Vec slope(Vec x) { return cdf(x) + x * exp(x * x * -0.5f) * 0.39894228f; }
};

struct GeluTanh {
  // 0.79788456 = sqrt(2 / pi)
  static Vec bend(Vec x) { return tanh(0.797884561f * x * (1.0f + 0.044715f * x * x)); }
  static Vec value(Vec x) { return 0.5f * x * (1.0f + bend(x)); }
  static Vec slope(Vec x) {
    const Vec t = bend(x), inner = 0.797884561f * (1.0f + 0.134145f * x * x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * inner;
  }
};

struct Sigmoid {
  static Vec value(Vec x) { return sigmoid(x); }
  static Vec slope(Vec x) {
    const Vec e = exp(-abs(x)), s = 1.0f / (1.0f + e);
    return e * s * s;
  }
};

struct LogSigmoid {
  static Vec value(Vec x) { return min(x, Vec{}) - log1p_unit(exp(-abs(x))); }
  static Vec slope(Vec x) { return sigmoid(-x); }
};

struct Tanh {
  static Vec value(Vec x) { return tanh(x); }
  static Vec slope(Vec x) {
    const Vec t = tanh(x);
    return 1.0f - t * t;
  }
};

struct HardTanh {
  // NaN stays NaN
  static Vec value(Vec x) { return min(max(x, broadcast(-1.0f)), broadcast(1.0f)); }
  static Vec slope(Vec x) { return select(abs(x) > 1.0f, Vec{}, broadcast(1.0f)); }
};

// Calls body(Relu()) etc., so that one loop is compiled for each activation.
template <class Body>
void with_activation(Activation f, Body body) {
  switch (f) {
    case Activation::relu: return body(Relu());
    case Activation::silu: return body(Silu());
    case Activation::gelu_erf: return body(GeluErf());
    case Activation::gelu_tanh: return body(GeluTanh());
    case Activation::sigmoid: return body(Sigmoid());
    case Activation::log_sigmoid: return body(LogSigmoid());
    case Activation::tanh: return body(Tanh());
    case Activation::hard_tanh: return body(HardTanh());
  }
}

}  // namespace
}  // namespace supra::SUPRA_LEVEL
