#include "tensor/quantized.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tensor/error.h"

namespace supra {

size_t row_bytes(Dtype dtype, int64_t n) {
  if (!is_quantized(dtype)) return static_cast<size_t>(n) * size_of(dtype);
  CHECK(n % kBlock == 0, "%s: a row of %ld elements cannot be divided into blocks of %ld", name(dtype), static_cast<long>(n),
        static_cast<long>(kBlock));
  static const size_t block_bytes[] = {34, 18, 20};
  return static_cast<size_t>(n / kBlock) * block_bytes[static_cast<int>(dtype) - static_cast<int>(Dtype::q8_0)];
}

ScaleRange scales_of(const void* row, Dtype dtype, int64_t n) {
  const int64_t quants = dtype == Dtype::q8_0 ? n : n / 2;
  return {static_cast<const uint8_t*>(row) + quants, n / kBlock * (dtype == Dtype::q4_1 ? 2 : 1)};
}

namespace {

float read_f16(const uint8_t* p) {
  uint16_t half;
  memcpy(&half, p, sizeof half);
  return f16_to_f32(half);
}

// The position of the four bits of element i in a row of n.
struct Nibble {
  int64_t byte;
  int shift;
};
Nibble nibble(int64_t i, int64_t n) {
  const int64_t pair = i / (2 * kBlock) * kBlock, at = i % (2 * kBlock);
  const int64_t width = n - 2 * pair == kBlock ? kBlock / 2 : kBlock;
  return {pair + at % width, at < width ? 0 : 4};
}

// x ~ scale * q + offset
struct Code {
  float scale, offset;
};

Code code_of(Dtype dtype, const float* x) {
  const auto [least, most] = std::minmax_element(x, x + kBlock);
  const float largest = -*least > *most ? *least : *most;
  if (dtype == Dtype::q8_0) return {std::fabs(largest) / 127, 0};
  if (dtype == Dtype::q4_0) return {largest / -8, largest};
  return {(*most - *least) / 15, *least};
}

}  // namespace

void quantize_row(void* row, Dtype dtype, const float* x, int64_t n) {
  memset(row, 0, row_bytes(dtype, n));
  uint8_t* const quants = static_cast<uint8_t*>(row);
  uint8_t* const scales = quants + (scales_of(row, dtype, n).data - quants);
  for (int64_t i = 0; i < n; i += kBlock) {
    CHECK(std::none_of(x + i, x + i + kBlock, [](float element) { return std::isnan(element); }),
          "%s: an element is NaN (the model is damaged; integers cannot hold one, use bf16 or f32)", name(dtype));
    const Code code = code_of(dtype, x + i);
    const uint16_t scale = f32_to_f16(code.scale), offset = f32_to_f16(code.offset);
    CHECK(std::isfinite(f16_to_f32(scale)) && (dtype != Dtype::q4_1 || std::isfinite(f16_to_f32(offset))),
          "%s: a block with elements up to %g exceeds its f16 scale (use bf16 or f32)", name(dtype),
          std::fabs(static_cast<double>(code.offset)) + 15 * std::fabs(static_cast<double>(code.scale)));
    memcpy(scales + i / kBlock * 2, &scale, 2);
    if (dtype == Dtype::q4_1) memcpy(scales + (n + i) / kBlock * 2, &offset, 2);
    const float inverse = (scale & 0x7fff) == 0 ? 0 : 1 / code.scale;
    for (int64_t k = i; k < i + kBlock; k++) {
      if (dtype == Dtype::q8_0) {
        quants[k] = static_cast<uint8_t>(static_cast<int8_t>(std::round(x[k] * inverse)));
        continue;
      }
      const float shifted = dtype == Dtype::q4_0 ? x[k] * inverse + 8.5f : (x[k] - code.offset) * inverse + 0.5f;
      const auto [byte, shift] = nibble(k, n);
      quants[byte] = static_cast<uint8_t>(quants[byte] | std::min(15, static_cast<int>(shifted)) << shift);
    }
  }
}

void dequantize_row(float* x, const void* row, Dtype dtype, int64_t n) {
  row_bytes(dtype, n);
  const uint8_t* quants = static_cast<const uint8_t*>(row);
  const uint8_t* scales = scales_of(row, dtype, n).data;
  for (int64_t i = 0; i < n; i++) {
    const float scale = read_f16(scales + i / kBlock * 2);
    if (dtype == Dtype::q8_0) {
      x[i] = scale * static_cast<float>(static_cast<int8_t>(quants[i]));
      continue;
    }
    const auto [byte, shift] = nibble(i, n);
    const float q = static_cast<float>(quants[byte] >> shift & 15);
    x[i] = scale * q + (dtype == Dtype::q4_0 ? -8 * scale : read_f16(scales + (n + i) / kBlock * 2));
  }
}

}  // namespace supra
