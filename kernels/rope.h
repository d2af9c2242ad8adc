#pragma once
#include "kernels/cuda.h"
#include "kernels/ops.h"

namespace supra {

// cos and sin of all angles of a call of rope(): one row a position, one column a pair (half) or an element
// (interleaved, each value twice). Only the positions of the call are in it, however far the sequence has come.
struct RopeTable {
  Rope rope;
  std::vector<int64_t> positions;
  Tensor cosine, sine;
};
// One of f32.
RopeTable rope_table(const Rope& rope, const std::vector<int64_t>& positions, Device device);

// What rope() turns x of this shape (B,T,H,K) by on the GPU, for an op that does it itself: cosine and sine in f32.
// A rope of no layout: undefined.
struct RopeAngles {
  Tensor cosine, sine;
  RopeTurn turn = {};
};
RopeAngles rope_angles(const Shape& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts);

}  // namespace supra
