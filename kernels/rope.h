#pragma once
#include "kernels/cuda.h"
#include "kernels/ops.h"

namespace supra {

// cos and sin of all angles of a call of rope(): one row per position, one column per pair (half) or per element
// (interleaved, each value twice). It contains only the positions of the call, at any depth of the sequence.
struct RopeTable {
  Rope rope;
  std::vector<int64_t> positions;
  Tensor cosine, sine;
};
RopeTable rope_table(const Rope& rope, const std::vector<int64_t>& positions, Device device, Dtype dtype = Dtype::f32);

// The angles of rope() for x (B,T,H,K) on the GPU, for an op that rotates itself: cosine and sine in f32. Undefined
// if the rope has no layout.
struct RopeAngles {
  Tensor cosine, sine;
  RopeTurn turn = {};
};
RopeAngles rope_angles(const Shape& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts);

}  // namespace supra
