#include "kernels/cuda.h"
#include "kernels/rows.cuh"

// relative_error on the GPU: error = sum |y - t|^2 and target = sum |t|^2 of each row;  dy = factor (y - t).   y, t, dy (N,C)
// the others (N). Forward: a team of threads takes a row. Backward: a thread takes a vector of a row. Memory bounds both.

namespace supra::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    row_squares_kernel(float* error, float* target, const T* y, const T* t, int64_t N, int64_t C) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  float gaps = 0, squares = 0;
  for (int64_t i = row < N ? threadIdx.x : C; i < C; i += blockDim.x) {
    const float a = to_float(t[row * C + i]), gap = to_float(y[row * C + i]) - a;
    gaps += gap * gap, squares += a * a;
  }
  gaps = team_sum(gaps, shared_memory<float>());
  squares = team_sum(squares, shared_memory<float>());
  if (row < N && threadIdx.x == 0) error[row] = gaps, target[row] = squares;
}

template <class T>
struct GapBack {
  T* dy;
  const T *y, *t;
  const float* factor;
  int64_t C;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    const float f = factor[row];
    float a[W], b[W];
    load(a, y + row * C + i), load(b, t + row * C + i);
    // behind a row's length y and t may be NaN
    for (int e = 0; e < W; e++) a[e] = f == 0 ? 0 : f * (a[e] - b[e]);
    store(dy + row * C + i, a);
  }
};

}  // namespace

template <class T>
void row_squares(float* error, float* target, const T* y, const T* t, int64_t N, int64_t C) {
  const dim3 block = teams(C);
  launch<row_squares_kernel<T>>({blocks(N, block.y), block, kTeamScratch}, error, target, y, t, N, C);
}
template <class T>
void relative_error_bwd(T* dy, const T* y, const T* t, const float* factor, int64_t N, int64_t C) {
  constexpr int W = kVector<T>;
  each_element<W>(N, C, fits_vectors<W>(C, dy, y, t), GapBack<T>{dy, y, t, factor, C});
}

template decltype(row_squares<float>) row_squares<float>;
template decltype(row_squares<Bf16>) row_squares<Bf16>;
template decltype(relative_error_bwd<float>) relative_error_bwd<float>;
template decltype(relative_error_bwd<Bf16>) relative_error_bwd<Bf16>;

}  // namespace supra::cuda
