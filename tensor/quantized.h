#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

// Quantised rows: a block of 32 neighbouring elements shares a scale. The values are those of ggml's types of the
// same names, but the layout is different. A row of C elements is one range of bytes: first all quants, then all
// scales, so that both are read in order:
//
//   q8_0   C int8 q           C/32 f16 d                   x = d q,        d = max |x| / 127
//   q4_0   C/2 bytes of q     C/32 f16 d                   x = d (q - 8),  d = -x / 8 for the largest |x|
//   q4_1   C/2 bytes of q     C/32 f16 d, C/32 f16 m       x = d q + m,    m = min x, d = (max x - m) / 15
//
// Four-bit quants: byte i of a pair of blocks (32 bytes) holds element i of the first block in its low half
// and element i of the second in its high half, so one load and a mask or a shift give a block in order. If
// C/32 is odd, the last block has no partner: its 16 bytes hold elements 0..15 in the low halves and 16..31 in
// the high halves.

namespace supra {

constexpr int64_t kBlock = 32;

// The bytes of a row of n elements. Throws Error if a quantised row is not a multiple of 32.
size_t row_bytes(Dtype dtype, int64_t n);

// Throws Error if a scale exceeds the range of f16, or if an element is NaN.
void quantize_row(void* row, Dtype dtype, const float* x, int64_t n);
void dequantize_row(float* x, const void* row, Dtype dtype, int64_t n);

// The f16 scales (and minima) of a row: their offset and their number.
struct ScaleRange {
  const uint8_t* data;
  int64_t count;
};
ScaleRange scales_of(const void* row, Dtype dtype, int64_t n);

}  // namespace supra
