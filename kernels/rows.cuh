#pragma once
#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "tensor/elements.cuh"

// What kernels share that sum along rows. A team of threads walks along a row; teams of narrow rows share a block, and even a
// warp (blockDim is teams() of tensor/elements.cuh). Sums over rows have two stages, so that their order is fixed: each block
// adds its own rows, then add_rows() of cuda.h adds the results of the blocks.

namespace supra::cuda {

constexpr int64_t kPartials = 256;                       // blocks of the first stage, at most; the same for every GPU
constexpr size_t kTeamScratch = kBlockThreads / 32 * 4;  // bytes that over_team() works in

// The x of a team's threads combined, in each of them. All threads of the block must call it.
template <class Op>
__device__ float over_team(float x, float* scratch, Op op) {
  for (int offset = (blockDim.x < 32 ? blockDim.x : 32) / 2; offset > 0; offset /= 2)
    x = op(x, __shfl_xor_sync(kWholeWarp, x, offset));
  const int warps = blockDim.x / 32;
  if (warps <= 1) return x;
  float* const team = scratch + threadIdx.y * warps;
  if (threadIdx.x % 32 == 0) team[threadIdx.x / 32] = x;
  __syncthreads();
  x = team[0];
  for (int i = 1; i < warps; i++) x = op(x, team[i]);
  // all have read these numbers before the next ones are written
  __syncthreads();
  return x;
}
__device__ inline float team_sum(float x, float* scratch) {
  return over_team(x, scratch, [](float a, float b) { return a + b; });
}
__device__ inline float team_max(float x, float* scratch) {
  return over_team(x, scratch, [](float a, float b) { return fmaxf(a, b); });
}

}  // namespace supra::cuda
