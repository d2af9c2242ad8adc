#include "kernels/cuda.h"
#include "tensor/elements.cuh"

// take_rows on the GPU: y[m] = x[index[m] - base] if x has that row.   y (M,D)  x (N,D). A thread takes a vector of a row.
// Memory bounds it.

namespace supra::cuda {

namespace {

template <class T>
struct TakeRows {
  T* y;
  const T* x;
  const int32_t* index;
  int64_t base, N, D;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    const int64_t from = index[row] - base;
    if (from < 0 || from >= N) return;
    float a[W];
    load(a, x + from * D + i);
    store(y + row * D + i, a);
  }
};

}  // namespace

template <class T>
void take_rows(T* y, const T* x, const int32_t* index, int64_t base, int64_t M, int64_t N, int64_t D) {
  constexpr int W = kVector<T>;
  each_element<W>(M, D, fits_vectors<W>(D, y, x), TakeRows<T>{y, x, index, base, N, D});
}

template decltype(take_rows<float>) take_rows<float>;
template decltype(take_rows<Bf16>) take_rows<Bf16>;

}  // namespace supra::cuda
