#pragma once
#include "kernels/activation.h"
#include "tensor/cuda.cuh"

// The activations of activation.h on the GPU, in f32.

namespace supra::cuda {

__device__ inline float logistic(float x) { return 1 / (1 + expf(-x)); }

struct Relu {
  // NaN stays NaN
  __device__ static float value(float x) { return x < 0 ? 0 : x; }
  __device__ static float slope(float x) { return x > 0 ? 1 : 0; }
};

struct Silu {
  __device__ static float value(float x) { return x * logistic(x); }
  __device__ static float slope(float x) { return logistic(x) * (1 + x * logistic(-x)); }
};

struct GeluErf {
  // 0.70710678 = 1 / sqrt(2), 0.39894228 = 1 / sqrt(2 pi)
  __device__ static float cdf(float x) { return 0.5f * erfcf(-0.707106781f * x); }
  __device__ static float value(float x) { return x * cdf(x); }
  __device__ static float slope(float x) { return cdf(x) + x * expf(-0.5f * x * x) * 0.39894228f; }
};

struct GeluTanh {
  // 0.79788456 = sqrt(2 / pi)
  __device__ static float bend(float x) { return tanhf(0.797884561f * x * (1 + 0.044715f * x * x)); }
  __device__ static float value(float x) { return 0.5f * x * (1 + bend(x)); }
  __device__ static float slope(float x) {
    const float t = bend(x), inner = 0.797884561f * (1 + 0.134145f * x * x);
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * inner;
  }
};

struct Sigmoid {
  __device__ static float value(float x) { return logistic(x); }
  __device__ static float slope(float x) { return logistic(x) * logistic(-x); }
};

struct LogSigmoid {
  __device__ static float value(float x) { return fminf(x, 0) - log1pf(expf(-fabsf(x))); }
  __device__ static float slope(float x) { return logistic(-x); }
};

struct Tanh {
  __device__ static float value(float x) { return tanhf(x); }
  __device__ static float slope(float x) {
    const float t = tanhf(x);
    return 1 - t * t;
  }
};

struct HardTanh {
  // NaN stays NaN
  __device__ static float value(float x) { return x < -1 ? -1 : x > 1 ? 1 : x; }
  __device__ static float slope(float x) { return fabsf(x) > 1 ? 0 : 1; }
};

// Calls body(Relu()) and so on. A thread branches once for all of its elements.
template <class Body>
__device__ void with_activation(Activation f, Body body) {
  switch (f) {
    case Activation::relu:
      return body(Relu());
    case Activation::silu:
      return body(Silu());
    case Activation::gelu_erf:
      return body(GeluErf());
    case Activation::gelu_tanh:
      return body(GeluTanh());
    case Activation::sigmoid:
      return body(Sigmoid());
    case Activation::log_sigmoid:
      return body(LogSigmoid());
    case Activation::tanh:
      return body(Tanh());
    case Activation::hard_tanh:
      return body(HardTanh());
  }
}

}  // namespace supra::cuda
