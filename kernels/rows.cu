#include "kernels/rows.cuh"

// Sums over rows: sums (C) += the sum over the rows of x (N,C), and its reverse, y (N,C) = row (C). Many rows are cut into
// slices, whose sums a second launch adds; the number of slices depends only on N, so all GPUs give the same bits. Memory
// bounds them.

namespace supra::cuda {

constexpr int kWarps = 8;
constexpr int64_t kRows = 256;   // rows of a slice, until there are kSlices
constexpr int64_t kSlices = 64;  // slices at most

// y (gridDim.y, C): = or += the sums over slices of `rows` rows of x (N,C). A block takes 32 vectors of columns of a slice, a
// lane one of them, and each of its eight warps every eighth row.
template <class T, int W>
__global__ void __launch_bounds__(32 * kWarps)
    sum_slices_kernel(float* y, const T* x, int64_t N, int64_t C, int64_t rows, bool add) {
  float* const sums = shared_memory<float>();
  const int64_t column = (int64_t{blockIdx.x} * 32 + threadIdx.x) * W, begin = blockIdx.y * rows;
  const int64_t end = begin + rows < N ? begin + rows : N;
  float sum[W] = {}, a[W];
  for (int64_t row = begin + threadIdx.y; row < end && column < C; row += kWarps) {
    load(a, x + row * C + column);
    for (int e = 0; e < W; e++) sum[e] += a[e];
  }
  store(sums + (threadIdx.y * 32 + threadIdx.x) * W, sum);
  __syncthreads();
  if (threadIdx.y > 0 || column >= C) return;
  for (int warp = 1; warp < kWarps; warp++) {
    load(a, sums + (warp * 32 + threadIdx.x) * W);
    for (int e = 0; e < W; e++) sum[e] += a[e];
  }
  y += blockIdx.y * C + column;
  if (add) {
    load(a, y);
    for (int e = 0; e < W; e++) sum[e] += a[e];
  }
  store(y, sum);
}

template <class T, int W>
static void sum_slices(float* y, const T* x, int64_t N, int64_t C, int64_t slices, bool add) {
  const int64_t rows = (N + slices - 1) / slices;
  const LaunchShape shape = {
      {blocks(C, 32 * W), static_cast<unsigned>(slices)}, {32, kWarps}, 32 * kWarps * W * sizeof(float)};
  launch<sum_slices_kernel<T, W>>(shape, y, x, N, C, rows, add);
}

template <class T>
void add_rows(float* sums, const T* x, int64_t N, int64_t C) {
  const int64_t slices = std::clamp<int64_t>(N / kRows, 1, kSlices);
  const Tensor memory = slices > 1 ? Tensor::empty({slices, C}, Dtype::f32, Device::cuda) : Tensor();
  float* const partial = data_or_null<float>(memory, Device::cuda);
  const bool vectors = fits_vectors(C, sums, x);
  if (slices == 1) return (vectors ? sum_slices<T, 4> : sum_slices<T, 1>)(sums, x, N, C, 1, true);
  (vectors ? sum_slices<T, 4> : sum_slices<T, 1>)(partial, x, N, C, slices, false);
  (vectors ? sum_slices<float, 4> : sum_slices<float, 1>)(sums, partial, slices, C, 1, true);
}

template <class T>
struct RepeatRow {
  T* y;
  const float* row;
  int64_t C;
  template <int W>
  __device__ void at(unsigned n, int64_t i) const {
    float a[W];
    load(a, row + i);
    store(y + n * C + i, a);
  }
};

template <class T>
void repeat_row(T* y, const float* row, int64_t N, int64_t C) {
  each_element<kVector<T>>(N, C, fits_vectors<kVector<T>>(C, y, row), RepeatRow<T>{y, row, C});
}

template void add_rows(float*, const float*, int64_t, int64_t);
template void add_rows(float*, const Bf16*, int64_t, int64_t);
template void repeat_row(float*, const float*, int64_t, int64_t);
template void repeat_row(Bf16*, const float*, int64_t, int64_t);

}  // namespace supra::cuda
