#pragma once
#include <stdint.h>

// Products with weights in the dtype in which they are stored, for decoding and prefill. This header has no inline code, so
// .simd.cpp files may include it.

namespace supra {

class Tensor;

// y (..., O) (+)= x (..., C) w(O,C)^T;  x, y: f32;  w: f16, bf16, q8_0, q4_0 or q4_1. Every weight is read once for M <= 4.
// With quantised weights, few rows of x are converted to 16-bit integers, in blocks of 32 with a scale, exact to 2^-16 of the
// block's largest. For many rows the weights are converted to f32.
void multiply_stored(const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate);

// Rows of activations for integer dot products: x = scale * (256 high + low), both int8. Blocks are in the order of the weights
// that they are multiplied with. Each block has a scale and scale * (sum of its quants). Rows are `stride` blocks apart, a
// multiple of 8; the scales after the last block are zero.
struct Int8Rows {
  int8_t *high, *low;
  float *scales, *sums;
  int64_t stride;
};

}  // namespace supra
