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

// The table of the angles for x (B,T,H,K), and how it is used: for rope(), and for a GPU kernel that rotates x itself.
// direction: 1 forward, -1 backward. Throws unless the rope fits x.
struct RopeAngles {
  Tensor cosine, sine;
  RopeTurn turn = {};
};
RopeAngles rope_angles(const Shape& x, Dtype dtype, Device device, const Rope& rope, const std::vector<int64_t>& first,
                       const Cuts& cuts, int direction);

}  // namespace supra
