#pragma once
#include "tensor/quantized.h"

// One block of a quantised row (tensor/quantized.h), for .simd.cpp files.

namespace supra::SUPRA_LEVEL {
namespace {

// The 32 quants of block b of a row; four-bit quants unchanged, 0 to 15.
inline void unpack(int8_t* out, const uint8_t* quants, Dtype dtype, int64_t b, int64_t blocks) {
  if (dtype == Dtype::q8_0) {
    __builtin_memcpy(out, quants + b * kBlock, kBlock);
  } else if (b + 1 == blocks && b % 2 == 0) {
    for (int i = 0; i < 16; i++) out[i] = quants[b * 16 + i] & 15, out[i + 16] = quants[b * 16 + i] >> 4;
  } else {
    const uint8_t* pair = quants + b / 2 * kBlock;
    const int shift = b % 2 * 4;
    for (int i = 0; i < kBlock; i++) out[i] = pair[i] >> shift & 15;
  }
}

// x = scale * quant + shift
struct Code {
  float scale, shift;
};
inline Code code_of(const uint8_t* row, Dtype dtype, int64_t b, int64_t blocks) {
  const uint8_t* at = row + blocks * (dtype == Dtype::q8_0 ? kBlock : kBlock / 2) + 2 * b;
  uint16_t halves[2];
  __builtin_memcpy(halves, at, 2);
  const float scale = f16_to_f32(halves[0]);
  if (dtype == Dtype::q8_0) return {scale, 0};
  if (dtype == Dtype::q4_0) return {scale, -8 * scale};
  __builtin_memcpy(halves + 1, at + 2 * blocks, 2);
  return {scale, f16_to_f32(halves[1])};
}

}  // namespace
}  // namespace supra::SUPRA_LEVEL
