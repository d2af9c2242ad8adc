#include "kernels/activation.cuh"
#include "kernels/cuda.h"
#include "tensor/elements.cuh"

// Operations on each element by itself: y = a + b, y = a b, y = factor x, y = f(x), dx = dy f'(x). n elements of f32 or bf16. A
// thread takes a vector of 16 bytes. Memory bounds all of them.

namespace supra::cuda {

namespace {

// y = f(a, b) in vectors: f gets the elements of a and b and writes y in place of a. b may be null.
template <class T, class F>
struct Map {
  T* y;
  const T *a, *b;
  F f;
  template <int W>
  __device__ void at(unsigned, int64_t i) const {
    float u[W], v[W] = {};
    load(u, a + i);
    if (b) load(v, b + i);
    f(u, v);
    store(y + i, u);
  }
};

template <class T, class F>
void map(T* y, const T* a, const T* b, int64_t n, const F& f) {
  constexpr int W = kVector<T>;
  each_element<W>(1, n, fits_vectors<W>(0, y, a, b), Map<T, F>{y, a, b, f});
}

struct Add {
  template <int W>
  __device__ void operator()(float (&a)[W], const float (&b)[W]) const {
    for (int e = 0; e < W; e++) a[e] += b[e];
  }
};

struct Multiply {
  template <int W>
  __device__ void operator()(float (&a)[W], const float (&b)[W]) const {
    for (int e = 0; e < W; e++) a[e] *= b[e];
  }
};

struct Scale {
  float factor;
  template <int W>
  __device__ void operator()(float (&x)[W], const float (&)[W]) const {
    for (int e = 0; e < W; e++) x[e] *= factor;
  }
};

struct Activate {
  Activation kind;
  template <int W>
  __device__ void operator()(float (&x)[W], const float (&)[W]) const {
    with_activation(kind, [&](auto f) {
      for (int e = 0; e < W; e++) x[e] = f.value(x[e]);
    });
  }
};

struct ActivateBack {
  Activation kind;
  template <int W>
  __device__ void operator()(float (&dy)[W], const float (&x)[W]) const {
    with_activation(kind, [&](auto f) {
      for (int e = 0; e < W; e++) dy[e] *= f.slope(x[e]);
    });
  }
};

}  // namespace

template <class T>
void add(T* y, const T* a, const T* b, int64_t n) {
  map<T>(y, a, b, n, Add{});
}
template <class T>
void mul(T* y, const T* a, const T* b, int64_t n) {
  map<T>(y, a, b, n, Multiply{});
}
template <class T>
void scale(T* y, const T* x, double factor, int64_t n) {
  map<T>(y, x, nullptr, n, Scale{static_cast<float>(factor)});
}
template <class T>
void activation_fwd(T* y, const T* x, int64_t n, Activation f) {
  map<T>(y, x, nullptr, n, Activate{f});
}
template <class T>
void activation_bwd(T* dx, const T* dy, const T* x, int64_t n, Activation f) {
  map<T>(dx, dy, x, n, ActivateBack{f});
}

template decltype(add<float>) add<float>;
template decltype(add<Bf16>) add<Bf16>;
template decltype(mul<float>) mul<float>;
template decltype(mul<Bf16>) mul<Bf16>;
template decltype(scale<float>) scale<float>;
template decltype(scale<Bf16>) scale<Bf16>;
template decltype(activation_fwd<float>) activation_fwd<float>;
template decltype(activation_fwd<Bf16>) activation_fwd<Bf16>;
template decltype(activation_bwd<float>) activation_bwd<float>;
template decltype(activation_bwd<Bf16>) activation_bwd<Bf16>;

}  // namespace supra::cuda
