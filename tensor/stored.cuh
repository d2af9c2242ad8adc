#pragma once
#include "tensor/cuda.cuh"
#include "tensor/quantized.h"

// Reads stored weights (f32, bf16, f16, quantised) element by element, as f32.

namespace supra::cuda {

// Element i of a row of C; the layouts are those of tensor/quantized.h.
__device__ inline float stored_element(const uint8_t* row, Dtype dtype, int64_t i, int64_t C) {
  if (dtype == Dtype::f16) return f16_to_float(reinterpret_cast<const uint16_t*>(row)[i]);
  const bool bytes = dtype == Dtype::q8_0;
  const uint16_t* const scale = reinterpret_cast<const uint16_t*>(row + (bytes ? C : C / 2)) + i / 32;
  const float d = f16_to_float(*scale);
  if (bytes) return d * static_cast<int8_t>(row[i]);
  // two blocks share 32 bytes, a last one alone has 16
  const int64_t pair = i / 64 * 32, at = i % 64, width = C - 2 * pair == 32 ? 16 : 32;
  const float q = at < width ? row[pair + at] & 15 : row[pair + at - width] >> 4;
  return d * q + (dtype == Dtype::q4_0 ? -8 * d : f16_to_float(scale[C / 32]));
}

// x = elements [i, i + W) of a row of C in f32, bf16, f16 or quantised
template <int W>
__device__ void load_stored(float (&x)[W], const uint8_t* row, Dtype dtype, int64_t i, int64_t C) {
  if (dtype == Dtype::f32) return load(x, reinterpret_cast<const float*>(row) + i);
  if (dtype == Dtype::bf16) return load(x, reinterpret_cast<const Bf16*>(row) + i);
  for (int e = 0; e < W; e++) x[e] = stored_element(row, dtype, i + e, C);
}

}  // namespace supra::cuda
