#pragma once
#include "kernels/cuda.h"
#include "kernels/ops.h"

namespace supra {

// What rope() turns x of this shape (B,T,H,K) by on the GPU, for an op that does it itself: cosine and sine in f32.
// A rope of no layout: undefined.
struct RopeAngles {
  Tensor cosine, sine;
  RopeTurn turn = {};
};
RopeAngles rope_angles(const Shape& x, const Rope& rope, const std::vector<int64_t>& first, const Cuts& cuts);

}  // namespace supra
