#pragma once
#include "kernels/rows.cuh"

// The three norms in one pair of kernels:  y = w n + b,  n = (x - mean) rstd,  rstd = 1 / sqrt(mean of squares + eps)
//   dx = rstd (w dy - mean(w dy) - n mean(w dy n)),  dw = sum over rows of dy n,  db = sum over rows of dy
//   x, y, dx, dy (N,C)  w, b, dw, db (C)  mean, rstd (N)
// rms subtracts no mean. group has neither w nor b, a row is a group, and its backward gets the output n instead of x.
//
// A team of threads takes a row (rows.cuh); a thread takes every so many vectors of it. Memory bounds both kernels: a row is
// read once from global memory, and again for each further pass from the L1 cache.

namespace supra::cuda {

enum class Norm { rms, layer, group };

// mean: null except for layer. w, b: may be null.
template <Norm norm, class T, int W>
__global__ void __launch_bounds__(kBlockThreads)
    norm_fwd_kernel(T* y, float* mean, float* rstd, const T* x, const float* w, const float* b, int64_t N,
                    int64_t C, float eps) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const int64_t first = row < N ? threadIdx.x * W : C, step = blockDim.x * W;
  x += row * C, y += row * C;
  const auto row_mean = [&](auto f) {
    float sum = 0;
    for (int64_t i = first; i < C; i += step) {
      float a[W];
      load(a, x + i);
      for (int e = 0; e < W; e++) sum += f(a[e]);
    }
    return team_sum(sum, shared_memory<float>()) / C;
  };
  const float m = norm == Norm::rms ? 0 : row_mean([](float v) { return v; });
  const float r = 1 / sqrtf(row_mean([=](float v) { return (v - m) * (v - m); }) + eps);
  for (int64_t i = first; i < C; i += step) {
    float a[W], g[W];
    load(a, x + i);
    for (int e = 0; e < W; e++) a[e] = (a[e] - m) * r;
    if (w) {
      load(g, w + i);
      for (int e = 0; e < W; e++) a[e] *= g[e];
    }
    if (b) {
      load(g, b + i);
      for (int e = 0; e < W; e++) a[e] += g[e];
    }
    store(y + i, a);
  }
  if (row >= N || threadIdx.x > 0) return;
  rstd[row] = r;
  if (mean) mean[row] = m;
}

// dw, db (gridDim.x, C): the sums over the rows of each block; null if not wanted. Each team adds to sums of its own in shared
// memory, so no two threads add to the same number.
template <Norm norm, class T, int W>
__global__ void __launch_bounds__(kBlockThreads)
    norm_bwd_kernel(T* dx, float* dw, float* db, const T* dy, const T* x, const float* w, const float* mean,
                    const float* rstd, int64_t N, int64_t C) {
  float* const scratch = shared_memory<float>();
  float* const dw_teams = scratch + kTeamScratch / sizeof(float);
  float* const db_teams = dw_teams + (dw ? blockDim.y * C : 0);
  float *const dw_mine = dw_teams + threadIdx.y * C, *const db_mine = db_teams + threadIdx.y * C;
  for (int64_t i = threadIdx.x; i < C; i += blockDim.x) {
    if (dw) dw_mine[i] = 0;
    if (db) db_mine[i] = 0;
  }
  __syncthreads();
  for (int64_t base = int64_t{blockIdx.x} * blockDim.y; base < N; base += int64_t{gridDim.x} * blockDim.y) {
    const int64_t row = base + threadIdx.y, at = row * C;
    const int64_t first = row < N ? threadIdx.x * W : C, step = blockDim.x * W;
    const float r = row < N ? rstd[row] : 0, m = norm == Norm::layer && row < N ? mean[row] : 0;
    // of the columns from i on: n, dy (d), w dy (g)
    const auto read = [&](int64_t i, float(&n)[W], float(&d)[W], float(&g)[W]) {
      load(n, x + at + i), load(d, dy + at + i);
      if (w) load(g, w + i);
      for (int e = 0; e < W; e++) {
        if (norm != Norm::group) n[e] = (n[e] - m) * r;
        g[e] = w ? g[e] * d[e] : d[e];
      }
    };
    float shift = 0, pull = 0, n[W], d[W], g[W];
    for (int64_t i = first; i < C; i += step) {
      read(i, n, d, g);
      for (int e = 0; e < W; e++) shift += g[e], pull += g[e] * n[e];
    }
    shift = norm == Norm::rms ? 0 : team_sum(shift, scratch) / C;
    pull = team_sum(pull, scratch) / C;
    for (int64_t i = first; i < C; i += step) {
      read(i, n, d, g);
      for (int e = 0; e < W; e++) {
        if (dw) dw_mine[i + e] += d[e] * n[e];
        if (db) db_mine[i + e] += d[e];
        g[e] = r * (g[e] - shift - n[e] * pull);
      }
      store(dx + at + i, g);
    }
  }
  if (!dw && !db) return;
  __syncthreads();
  for (int64_t i = threadIdx.y * blockDim.x + threadIdx.x; i < C; i += kBlockThreads) {
    float dw_sum = 0, db_sum = 0;
    for (unsigned team = 0; team < blockDim.y; team++) {
      if (dw) dw_sum += dw_teams[team * C + i];
      if (db) db_sum += db_teams[team * C + i];
    }
    if (dw) dw[blockIdx.x * C + i] = dw_sum;
    if (db) db[blockIdx.x * C + i] = db_sum;
  }
}

template <Norm norm, class T>
void norm_fwd(T* y, float* mean, float* rstd, const T* x, const float* w, const float* b, int64_t N, int64_t C,
              double eps) {
  constexpr int W = kVector<T>;
  by_width<W>(fits_vectors<W>(C, y, x, w, b), [&]<int width>(std::integral_constant<int, width>) {
    const dim3 block = teams((C + width - 1) / width);
    launch<norm_fwd_kernel<norm, T, width>>({blocks(N, block.y), block, kTeamScratch}, y, mean, rstd, x, w, b, N, C, eps);
  });
}

// dw, db (C): +=, or null
template <Norm norm, class T>
void norm_bwd(T* dx, float* dw, float* db, const T* dy, const T* x, const float* w, const float* mean,
              const float* rstd, int64_t N, int64_t C) {
  constexpr int W = kVector<T>;
  by_width<W>(fits_vectors<W>(C, dx, dy, x, w), [&]<int width>(std::integral_constant<int, width>) {
    const dim3 block = teams((C + width - 1) / width);
    const int64_t grid = std::min(int64_t{blocks(N, block.y)}, kPartials), sums = (dw ? 1 : 0) + (db ? 1 : 0);
    const Tensor memory = sums ? Tensor::empty({sums, grid, C}, Dtype::f32, Device::cuda) : Tensor();
    float* const partial = data_or_null<float>(memory, Device::cuda);
    float* const db_partial = db ? partial + (dw ? grid * C : 0) : nullptr;
    launch<norm_bwd_kernel<norm, T, width>>(
        {blocks(grid, 1), block, kTeamScratch + sums * block.y * C * sizeof(float)}, dx, dw ? partial : nullptr,
        db_partial, dy, x, w, mean, rstd, N, C);
    if (dw) add_rows(dw, partial, grid, C);
    if (db) add_rows(db, db_partial, grid, C);
  });
}

}  // namespace supra::cuda
