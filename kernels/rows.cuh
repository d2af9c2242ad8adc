#pragma once
#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "tensor/elements.cuh"

// What kernels share that sum along rows. A team of threads walks along a row; narrow rows share a block, and
// a warp: blockDim is teams() of tensor/elements.cuh. Sums over rows go in two stages, so that no order
// depends on luck: every block adds up its rows, add_rows() of cuda.h the blocks.

namespace supra::cuda {

constexpr int64_t kPartials = 256;                       // blocks of the first stage, at most; the same for every GPU
constexpr size_t kTeamScratch = kBlockThreads / 32 * 4;  // bytes that team_sum() works in

// The sum over a team, in every thread of it; all threads of the block must come.
__device__ inline float team_sum(float x, float* scratch) {
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

}  // namespace supra::cuda
