#pragma once
#include <stdint.h>

// Products with weights as they are stored, whatever their dtype: what decoding and prefill are made of. No
// inline code here, so kernels compiled once a level may include it.

namespace supra {

class Tensor;

// y (..., O) (+)= x (..., C) w(O,C)^T;  x, y: f32;  w: f16, bf16, q8_0, q4_0 or q4_1. Every weight is read
// once for M <= 4. Against quantised weights few rows of x become integers of 16 bits, in blocks of 32 with a
// scale, exact to 2^-16 of the largest of a block; many rows meet weights turned into f32.
void multiply_stored(const Tensor& y, const Tensor& x, const Tensor& w, bool accumulate);

// On the GPU, for few rows of x (f32 or bf16; y the same): y (..., O) = x (..., C) w(O,C)^T + bias (O) or undefined, w in
// any dtype above or f32. False, with nothing done, on the CPU and for more rows than pay.
bool multiply_few_on_gpu(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias);

// Rows of activations as integer dots read them: x = scale * (256 high + low), both int8. Blocks stand in the
// order that suits the weights they are made for, and of each block in its own order a scale and scale * (sum of
// its quants). Rows lie `stride` blocks apart, a multiple of 8; the scales behind the last block are zero.
struct Int8Rows {
  int8_t *high, *low;
  float *scales, *sums;
  int64_t stride;
};

}  // namespace supra
