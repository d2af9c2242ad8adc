#include "kernels/cuda.h"
#include "tensor/elements.cuh"

// Copies of columns, y = x between matrices of different widths (layout.cpp), and sums of repeated heads. A thread takes a
// vector of a row. Memory bounds both.

namespace supra::cuda {

namespace {

template <class T>
struct CopyColumns {
  T* to;
  int64_t to_stride;
  const T* from;
  int64_t from_stride;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    float a[W] = {};
    if (from) load(a, from + row * from_stride + i);
    store(to + row * to_stride + i, a);
  }
};

template <class T>
struct SumHeads {
  T* dx;
  const T* dy;
  int64_t times, K;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    float sum[W] = {}, term[W];
    for (int64_t t = 0; t < times; t++) {
      load(term, dy + (row * times + t) * K + i);
      for (int e = 0; e < W; e++) sum[e] += term[e];
    }
    store(dx + row * K + i, sum);
  }
};

}  // namespace

template <class T>
void copy_columns(T* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t N, int64_t C) {
  constexpr int W = kVector<T>;
  // W is a power of two, so it divides all three if it divides their bits or'ed together
  const bool vectors = fits_vectors<W>(C | to_stride | from_stride, to, from);
  each_element<W>(N, C, vectors, CopyColumns<T>{to, to_stride, from, from_stride});
}
template <class T>
void sum_heads(T* dx, const T* dy, int64_t N, int64_t times, int64_t K) {
  constexpr int W = kVector<T>;
  each_element<W>(N, K, fits_vectors<W>(K, dx, dy), SumHeads<T>{dx, dy, times, K});
}

template decltype(copy_columns<float>) copy_columns<float>;
template decltype(copy_columns<Bf16>) copy_columns<Bf16>;
template decltype(sum_heads<float>) sum_heads<float>;
template decltype(sum_heads<Bf16>) sum_heads<Bf16>;

}  // namespace supra::cuda
