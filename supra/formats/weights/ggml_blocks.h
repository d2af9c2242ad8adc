#pragma once
#include <cstdint>
#include <optional>

#include "tensor/dtype.h"

// The element types of ggml (github.com/ggml-org/ggml, ggml-common.h), and what they become here.
//   F32, F16, BF16, ...        the same bytes
//   Q8_0, Q4_0, Q4_1           the same values to the bit, in the rows of tensor/quantized.h
//   Q5_0, Q5_1, Q4_K, Q5_K, Q6_K   dequantised to f16: all but the last rounding is exact, and that is less
//                              than a hundredth of a quantisation step
// Other types are known by name only.

namespace supra {

struct BlockType {
  const char* name;
  int64_t elements, bytes;     // of a block; 0: not read by this version
  std::optional<Dtype> dtype;  // what a row becomes
  // Turns the blocks of a row of n elements into a row of `dtype`; nullptr where the bytes stay as they are.
  void (*read_row)(uint8_t* row, const uint8_t* blocks, int64_t n);
};

// By ggml's number; nullptr for one nobody knows.
const BlockType* block_type(uint32_t id);

}  // namespace supra
