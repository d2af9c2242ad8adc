#include "tensor/dtype.h"

#include <cstring>
#include <vector>

#include "tensor/error.h"
#include "tensor/quantized.h"

namespace supra {

const char* name(Dtype dtype) {
  static const char* names[] = {"f64", "f32", "f16", "bf16", "i64", "i32", "i16", "i8", "u8", "q8_0", "q4_0", "q4_1"};
  return names[static_cast<int>(dtype)];
}

size_t size_of(Dtype dtype) {
  static const size_t sizes[] = {8, 4, 2, 2, 8, 4, 2, 1, 1};
  CHECK(!is_quantized(dtype), "%s: an element has no size of its own (convert the tensor with to())", name(dtype));
  return sizes[static_cast<int>(dtype)];
}

bool is_floating(Dtype dtype) { return dtype <= Dtype::bf16; }
bool is_quantized(Dtype dtype) { return dtype >= Dtype::q8_0; }

// __builtin_bit_cast: std::bit_cast is missing in libc++ 13, which Debian's emscripten has
float bf16_to_f32(uint16_t brain) { return __builtin_bit_cast(float, static_cast<uint32_t>(brain) << 16); }

uint16_t f32_to_bf16(float value) {
  const uint32_t u = __builtin_bit_cast(uint32_t, value);
  if ((u & 0x7fffffff) > 0x7f800000) return static_cast<uint16_t>((u >> 16) | 0x40);
  return static_cast<uint16_t>((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31, mantissa = half & 1023;
  if (exponent == 31) return __builtin_bit_cast(float, sign | 0x7f800000 | (mantissa << 13));
  if (exponent > 0) return __builtin_bit_cast(float, sign | ((exponent + 112) << 23) | (mantissa << 13));
  // 2^-24 steps below the smallest normal number
  const float magnitude = static_cast<float>(mantissa) * 5.9604644775390625e-8f;
  return sign ? -magnitude : magnitude;
}

uint16_t f32_to_f16(float value) {
  const uint32_t u = __builtin_bit_cast(uint32_t, value), sign = (u >> 16) & 0x8000, magnitude = u & 0x7fffffff;
  if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
  if (magnitude < 0x38800000) {
    // adding 0.5 leaves the rounded number of 2^-24 steps in the low bits of the sum
    return static_cast<uint16_t>(sign | (__builtin_bit_cast(uint32_t, __builtin_bit_cast(float, magnitude) + 0.5f) - 0x3f000000));
  }
  const uint32_t rounded = magnitude + 0xfff + ((magnitude >> 13) & 1);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000) >> 13));
}

// A half as an element of a tensor. It is read and written as float.
template <float read(uint16_t), uint16_t write(float)>
struct Half {
  uint16_t bits;

  Half() = default;
  template <class Number>
  explicit Half(Number x) : bits(write(static_cast<float>(x))) {}
  operator float() const { return read(bits); }
};

// Calls f with an element of the dtype's C++ type.
template <class F>
static void with_type(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::f64: return f(double());
    case Dtype::f32: return f(float());
    case Dtype::f16: return f(Half<f16_to_f32, f32_to_f16>());
    case Dtype::bf16: return f(Half<bf16_to_f32, f32_to_bf16>());
    case Dtype::i64: return f(int64_t());
    case Dtype::i32: return f(int32_t());
    case Dtype::i16: return f(int16_t());
    case Dtype::i8: return f(int8_t());
    case Dtype::u8: return f(uint8_t());
    default: fail("%s: a quantised row is converted as a whole", name(dtype));
  }
}

// Converts to or from a quantised row by way of f32.
static void convert_quantized(void* dst, Dtype to, const void* src, Dtype from, int64_t n) {
  std::vector<float> row(n);
  if (is_quantized(from)) dequantize_row(row.data(), src, from, n);
  else convert(row.data(), Dtype::f32, src, from, n);
  if (is_quantized(to)) quantize_row(dst, to, row.data(), n);
  else convert(dst, to, row.data(), Dtype::f32, n);
}

void convert(void* dst, Dtype to, const void* src, Dtype from, int64_t n) {
  if (to == from) {
    if (n > 0) memcpy(dst, src, row_bytes(to, n));
    return;
  }
  if (is_quantized(to) || is_quantized(from)) return convert_quantized(dst, to, src, from, n);
  with_type(from, [&]<class From>(From) {
    with_type(to, [&]<class To>(To) {
      for (int64_t i = 0; i < n; i++) static_cast<To*>(dst)[i] = static_cast<To>(static_cast<const From*>(src)[i]);
    });
  });
}

}  // namespace supra
