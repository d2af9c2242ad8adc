#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/dtype.h"

// Quantised rows: 32 neighbours, a block, share a scale. The values are those of ggml's types of the same
// names; the layout is ours. A row of C elements is one range of bytes, its quants in front and its scales
// behind, so that both stream:
//
//   q8_0   C int8 q           C/32 f16 d                   x = d q,        d = max |x| / 127
//   q4_0   C/2 bytes of q     C/32 f16 d                   x = d (q - 8),  d = -x / 8 for the largest |x|
//   q4_1   C/2 bytes of q     C/32 f16 d, C/32 f16 m       x = d q + m,    m = min x, d = (max x - m) / 15
//
// Four-bit quants: byte i of a pair of blocks (32 bytes) holds element i of the first block in its low half
// and element i of the second in its high half: one load, and a mask or a shift, gives a block in order. A
// block left over (C/32 odd) keeps its elements 0..15 in the low halves of its 16 bytes and 16..31 in the
// high ones.

namespace supra {

constexpr int64_t kBlock = 32;

// Bytes of n elements that lie together as one row. Throws Error where a quantised row is no multiple of 32.
size_t row_bytes(Dtype dtype, int64_t n);

// Throws Error when a scale exceeds f16, and where an element is NaN.
void quantize_row(void* row, Dtype dtype, const float* x, int64_t n);
void dequantize_row(float* x, const void* row, Dtype dtype, int64_t n);

// f16 scales (and minima) of a row: where they begin and how many there are.
struct ScaleRange {
  const uint8_t* data;
  int64_t count;
};
ScaleRange scales_of(const void* row, Dtype dtype, int64_t n);

}  // namespace supra
