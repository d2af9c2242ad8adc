#include "kernels/rows.cuh"

namespace supra::cuda {

constexpr int kWarps = kBlockThreads / 32;

// A block takes 32 columns, each of its warps every eighth row.
__global__ static void add_rows_kernel(float* total, const float* partial, int64_t rows, int64_t C) {
  float* const sums = shared_memory<float>();
  const int64_t i = int64_t{blockIdx.x} * 32 + threadIdx.x;
  float sum = 0;
  if (i < C) {
    for (int64_t row = threadIdx.y; row < rows; row += kWarps) sum += partial[row * C + i];
  }
  sums[threadIdx.y * 32 + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || i >= C) return;
  for (int warp = 1; warp < kWarps; warp++) sum += sums[warp * 32 + threadIdx.x];
  total[i] += sum;
}

void add_rows(float* sum, const float* partial, int64_t rows, int64_t C) {
  launch<add_rows_kernel>({blocks(C, 32), {32, kWarps}, kBlockThreads * sizeof(float)}, sum, partial, rows, C);
}

}  // namespace supra::cuda
