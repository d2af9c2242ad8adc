#pragma once
#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "tensor/elements.cuh"

// What kernels share that sum along rows. A team of threads walks along a row; narrow rows share a block, and
// a warp: blockDim is teams() of tensor/elements.cuh. Sums over rows go in two stages, so that no order
// depends on luck: every block adds up its rows, add_rows() of cuda.h the blocks.

namespace supra::cuda {

constexpr int64_t kPartials = 256;                       // blocks of the first stage, at most; the same for every GPU
constexpr size_t kTeamScratch = kBlockThreads / 32 * 4;  // bytes that over_team() works in

// x of a team combined, in every thread of it; all threads of the block must come.
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
  // nobody writes the next ones before all have read these
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
