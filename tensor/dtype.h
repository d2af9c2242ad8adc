#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>

// Element types and their conversions. Arithmetic is done in f32 (f64 in gradient checks); the others are storage.

namespace supra {

struct Bf16 {
  uint16_t bits;
};

enum class Dtype : uint8_t { f64, f32, f16, bf16, i64, i32, i16, i8, u8, q8_0, q4_0, q4_1 };

const char* name(Dtype dtype);   // "f32", "bf16", ...
size_t size_of(Dtype dtype);     // bytes per element; throws Error for a quantised type
bool is_floating(Dtype dtype);
bool is_quantized(Dtype dtype);  // converted only in whole rows: tensor/quantized.h

template <class T>
constexpr Dtype dtype_of() {
  if constexpr (std::is_same_v<T, double>) return Dtype::f64;
  else if constexpr (std::is_same_v<T, float>) return Dtype::f32;
  else if constexpr (std::is_same_v<T, Bf16>) return Dtype::bf16;
  else if constexpr (std::is_same_v<T, int64_t>) return Dtype::i64;
  else if constexpr (std::is_same_v<T, int32_t>) return Dtype::i32;
  else if constexpr (std::is_same_v<T, int16_t>) return Dtype::i16;
  else if constexpr (std::is_same_v<T, int8_t>) return Dtype::i8;
  else {
    static_assert(std::is_same_v<T, uint8_t>, "no dtype for this C++ type");
    return Dtype::u8;
  }
}

// IEEE half and bfloat16 as bit patterns; both directions round to nearest even and keep NaN and infinity.
float f16_to_f32(uint16_t half);
uint16_t f32_to_f16(float value);
float bf16_to_f32(uint16_t brain);
uint16_t f32_to_bf16(float value);

// dst[i] = src[i] for n elements of any two dtypes. Floating-point numbers are truncated to integers. If one dtype is
// quantised, the n elements are one row.
void convert(void* dst, Dtype to, const void* src, Dtype from, int64_t n);

}  // namespace supra
