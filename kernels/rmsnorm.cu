#include <algorithm>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"

// rmsnorm on the GPU. A team of threads walks along a row, four elements a thread and step where rows are
// aligned, one elsewhere; it reads the row again for its second pass, out of the L1 cache. Narrow rows (the
// norm of a head) share a block, and a warp: blockDim is (team, teams), both powers of two.
//
// dw sums over rows in two stages, so that no order depends on luck: every team adds up its rows in shared
// memory, a block its teams, and a second kernel the blocks.

namespace supra::cuda {

constexpr int kBlock = 256;
constexpr int64_t kPartials = 256;  // sums of dw in the first stage, at most; the same for every GPU

// The sum over a team, in every thread of it; all threads of the block must come.
__device__ static float team_sum(float x, float* scratch) {
  x = warp_sum(x, blockDim.x < 32 ? blockDim.x : 32);
  const int warps = blockDim.x / 32;
  if (warps <= 1) return x;
  float* const team = scratch + threadIdx.y * warps;
  if (threadIdx.x % 32 == 0) team[threadIdx.x / 32] = x;
  __syncthreads();
  x = 0;
  for (int i = 0; i < warps; i++) x += team[i];
  // nobody writes the next sum before all have read this one
  __syncthreads();
  return x;
}

template <class T, int W>
__global__ void __launch_bounds__(kBlock)
    rmsnorm_fwd_kernel(T* y, float* rstd, const T* x, const float* w, int64_t N, int64_t C, float eps) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const int64_t first = row < N ? threadIdx.x * W : C, step = blockDim.x * W;
  x += row * C, y += row * C;
  float squares = 0;
  for (int64_t i = first; i < C; i += step) {
    float a[W];
    load(a, x + i);
    for (int e = 0; e < W; e++) squares += a[e] * a[e];
  }
  const float r = 1 / sqrtf(team_sum(squares, shared_memory<float>()) / C + eps);
  for (int64_t i = first; i < C; i += step) {
    float a[W], b[W];
    load(a, x + i), load(b, w + i);
    for (int e = 0; e < W; e++) a[e] *= b[e] * r;
    store(y + i, a);
  }
  if (row < N && threadIdx.x == 0) rstd[row] = r;
}

// partial (gridDim.x, C): what each block adds to dw; null where dw is not wanted
template <class T, int W>
__global__ void __launch_bounds__(kBlock)
    rmsnorm_bwd_kernel(T* dx, float* partial, const T* dy, const T* x, const float* w, const float* rstd,
                       int64_t N, int64_t C) {
  float* const scratch = shared_memory<float>();
  float* const sums = scratch + kBlock / 32;
  float* const mine = sums + threadIdx.y * C;
  const int64_t column = threadIdx.x * W, step = blockDim.x * W;
  if (partial) {
    for (int64_t i = threadIdx.x; i < C; i += blockDim.x) mine[i] = 0;
    __syncthreads();
  }
  for (int64_t base = int64_t{blockIdx.x} * blockDim.y; base < N; base += int64_t{gridDim.x} * blockDim.y) {
    const int64_t row = base + threadIdx.y, first = row < N ? column : C;
    float dot = 0;
    for (int64_t i = first; i < C; i += step) {
      float a[W], b[W], d[W];
      load(a, x + row * C + i), load(b, w + i), load(d, dy + row * C + i);
      for (int e = 0; e < W; e++) dot += a[e] * b[e] * d[e];
    }
    const float r = row < N ? rstd[row] : 0, mean = team_sum(dot, scratch) / C * r * r;
    for (int64_t i = first; i < C; i += step) {
      float a[W], b[W], d[W];
      load(a, x + row * C + i), load(b, w + i), load(d, dy + row * C + i);
      for (int e = 0; e < W; e++) {
        if (partial) mine[i + e] += d[e] * a[e] * r;
        a[e] = r * (d[e] * b[e] - a[e] * mean);
      }
      store(dx + row * C + i, a);
    }
  }
  if (!partial) return;
  __syncthreads();
  for (int64_t i = threadIdx.y * blockDim.x + threadIdx.x; i < C; i += kBlock) {
    float sum = 0;
    for (unsigned team = 0; team < blockDim.y; team++) sum += sums[team * C + i];
    partial[blockIdx.x * C + i] = sum;
  }
}

// dw (C) += the sum over the rows of partial (rows, C). A block takes 32 columns, each of its warps every
// eighth row.
__global__ static void add_columns_kernel(float* dw, const float* partial, int64_t rows, int64_t C) {
  float* const sums = shared_memory<float>();
  const int64_t i = int64_t{blockIdx.x} * 32 + threadIdx.x;
  float sum = 0;
  if (i < C) {
    for (int64_t row = threadIdx.y; row < rows; row += kBlock / 32) sum += partial[row * C + i];
  }
  sums[threadIdx.y * 32 + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || i >= C) return;
  for (int warp = 1; warp < kBlock / 32; warp++) sum += sums[warp * 32 + threadIdx.x];
  dw[i] += sum;
}

// As many threads a row as have something to do, up to a block; as many rows a block as find room.
static dim3 teams(int64_t C, int W) {
  unsigned team = 4;
  while (team < kBlock && team * W < C) team *= 2;
  return {team, kBlock / team};
}

template <class T, int W>
static void fwd(T* y, float* rstd, const T* x, const float* w, int64_t N, int64_t C, double eps) {
  const dim3 block = teams(C, W);
  launch<rmsnorm_fwd_kernel<T, W>>({blocks(N, block.y), block, kBlock / 32 * sizeof(float)}, y, rstd, x, w, N,
                                   C, eps);
}

template <class T, int W>
static void bwd(T* dx, float* dw, const T* dy, const T* x, const float* w, const float* rstd, int64_t N,
                int64_t C) {
  const dim3 block = teams(C, W);
  const int64_t grid = std::min(int64_t{blocks(N, block.y)}, kPartials);
  const std::shared_ptr<void> memory = dw ? allocate(grid * C * sizeof(float)) : nullptr;
  float* const partial = static_cast<float*>(memory.get());
  const size_t shared = (kBlock / 32 + (dw ? block.y * C : 0)) * sizeof(float);
  launch<rmsnorm_bwd_kernel<T, W>>({blocks(grid, 1), block, shared}, dx, partial, dy, x, w, rstd, N, C);
  if (dw)
    launch<add_columns_kernel>({blocks(C, 32), {32, kBlock / 32}, kBlock * sizeof(float)}, dw, partial, grid,
                               C);
}

template <class T>
void rmsnorm_fwd(T* y, float* rstd, const T* x, const float* w, int64_t N, int64_t C, double eps) {
  (fits_vectors(C, y, x, w) ? fwd<T, 4> : fwd<T, 1>)(y, rstd, x, w, N, C, eps);
}

template <class T>
void rmsnorm_bwd(T* dx, float* dw, const T* dy, const T* x, const float* w, const float* rstd, int64_t N,
                 int64_t C) {
  (fits_vectors(C, dx, dy, x, w) ? bwd<T, 4> : bwd<T, 1>)(dx, dw, dy, x, w, rstd, N, C);
}

template void rmsnorm_fwd(float*, float*, const float*, const float*, int64_t, int64_t, double);
template void rmsnorm_fwd(Bf16*, float*, const Bf16*, const float*, int64_t, int64_t, double);
template void rmsnorm_bwd(float*, float*, const float*, const float*, const float*, const float*, int64_t,
                          int64_t);
template void rmsnorm_bwd(Bf16*, float*, const Bf16*, const Bf16*, const float*, const float*, int64_t,
                          int64_t);

}  // namespace supra::cuda
