#include "kernels/activation.cuh"
#include "kernels/cuda.h"
#include "tensor/elements.cuh"

// swiglu on the GPU: y = silu(gate) up.   y, dy (N,F)  gate_up, dgate_up (N,2F) = [gate; up]. A thread takes a vector of a row.
// Memory bounds it.

namespace supra::cuda {

namespace {

template <class T>
struct Swiglu {
  T* y;
  const T* gate_up;
  int64_t F;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    float gate[W], up[W];
    load(gate, gate_up + 2 * F * row + i), load(up, gate_up + 2 * F * row + F + i);
    for (int e = 0; e < W; e++) up[e] *= Silu::value(gate[e]);
    store(y + row * F + i, up);
  }
};

template <class T>
struct SwigluBack {
  T* dgate_up;
  const T *dy, *gate_up;
  int64_t F;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    float gate[W], up[W], d[W];
    load(gate, gate_up + 2 * F * row + i), load(up, gate_up + 2 * F * row + F + i), load(d, dy + row * F + i);
    for (int e = 0; e < W; e++) {
      up[e] *= d[e] * Silu::slope(gate[e]);
      d[e] *= Silu::value(gate[e]);
    }
    store(dgate_up + 2 * F * row + i, up), store(dgate_up + 2 * F * row + F + i, d);
  }
};

}  // namespace

template <class T>
void swiglu_fwd(T* y, const T* gate_up, int64_t N, int64_t F) {
  constexpr int W = kVector<T>;
  each_element<W>(N, F, fits_vectors<W>(F, y, gate_up), Swiglu<T>{y, gate_up, F});
}
template <class T>
void swiglu_bwd(T* dgate_up, const T* dy, const T* gate_up, int64_t N, int64_t F) {
  constexpr int W = kVector<T>;
  each_element<W>(N, F, fits_vectors<W>(F, dgate_up, dy, gate_up), SwigluBack<T>{dgate_up, dy, gate_up, F});
}

template decltype(swiglu_fwd<float>) swiglu_fwd<float>;
template decltype(swiglu_fwd<Bf16>) swiglu_fwd<Bf16>;
template decltype(swiglu_bwd<float>) swiglu_bwd<float>;
template decltype(swiglu_bwd<Bf16>) swiglu_bwd<Bf16>;

}  // namespace supra::cuda
