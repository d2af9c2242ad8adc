#pragma once
#include <cstdint>

namespace supra {

// How rope finds the angles of x (N,H,K): row n takes those of row n % period of the table, which is `width`
// wide, head h those h * head_step on. A pair (half) has one angle, an element (interleaved) a copy of its
// own.
struct RopeTurn {
  int64_t N, H, K, dims;
  bool interleaved;
  int64_t period, width, head_step;
  int direction;  // 1: forward, -1: backward
};

}  // namespace supra
