#include "kernels/activation.cuh"
#include "kernels/cuda.h"
#include "tensor/elements.cuh"

namespace supra::cuda {

namespace {

template <class T>
struct Gated {
  T* y;
  const T* gate_up;
  int64_t F;
  Activation kind;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    float gate[W], up[W];
    load(gate, gate_up + 2 * F * row + i), load(up, gate_up + 2 * F * row + F + i);
    with_activation(kind, [&](auto f) {
      for (int e = 0; e < W; e++) up[e] *= f.value(gate[e]);
    });
    store(y + row * F + i, up);
  }
};

template <class T>
struct GatedBack {
  T* dgate_up;
  const T *dy, *gate_up;
  int64_t F;
  Activation kind;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    float gate[W], up[W], d[W];
    load(gate, gate_up + 2 * F * row + i), load(up, gate_up + 2 * F * row + F + i), load(d, dy + row * F + i);
    with_activation(kind, [&](auto f) {
      for (int e = 0; e < W; e++) {
        up[e] *= d[e] * f.slope(gate[e]);
        d[e] *= f.value(gate[e]);
      }
    });
    store(dgate_up + 2 * F * row + i, up), store(dgate_up + 2 * F * row + F + i, d);
  }
};

}  // namespace

template <class T>
void gated_fwd(T* y, const T* gate_up, int64_t N, int64_t F, Activation f) {
  constexpr int W = kVector<T>;
  each_element<W>(N, F, fits_vectors<W>(F, y, gate_up), Gated<T>{y, gate_up, F, f});
}
template <class T>
void gated_bwd(T* dgate_up, const T* dy, const T* gate_up, int64_t N, int64_t F, Activation f) {
  constexpr int W = kVector<T>;
  each_element<W>(N, F, fits_vectors<W>(F, dgate_up, dy, gate_up), GatedBack<T>{dgate_up, dy, gate_up, F, f});
}

template decltype(gated_fwd<float>) gated_fwd<float>;
template decltype(gated_fwd<Bf16>) gated_fwd<Bf16>;
template decltype(gated_bwd<float>) gated_bwd<float>;
template decltype(gated_bwd<Bf16>) gated_bwd<Bf16>;

}  // namespace supra::cuda
