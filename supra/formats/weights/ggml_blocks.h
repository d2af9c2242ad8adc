#pragma once
#include <cstdint>
#include <optional>

#include "tensor/dtype.h"

// The element types of ggml (github.com/ggml-org/ggml, ggml-common.h), and the dtypes that they become.
//   F32, F16, BF16, ...        the same bytes
//   Q8_0, Q4_0, Q4_1           the same values to the bit, in the rows of tensor/quantized.h
//   Q5_0, Q5_1, Q4_K, Q5_K, Q6_K   dequantised to f16: only the last rounding is inexact, by less than a hundredth of a
//                              quantisation step
// Of other types only the name is known.

namespace supra {

struct BlockType {
  const char* name;
  int64_t elements = 0, bytes = 0;  // of a block; 0: not read by this version
  std::optional<Dtype> dtype = {};  // of the row that is read
  // Turns the blocks of a row of n elements into a row of `dtype`; null if the bytes stay the same.
  void (*read_row)(uint8_t* row, const uint8_t* blocks, int64_t n) = nullptr;
};

// By ggml's number; null if it is unknown.
const BlockType* block_type(uint32_t id);

}  // namespace supra
