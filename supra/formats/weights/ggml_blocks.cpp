#include "supra/formats/weights/ggml_blocks.h"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "tensor/quantized.h"

namespace supra {

namespace {

float f16_at(const uint8_t* p) {
  uint16_t half;
  memcpy(&half, p, sizeof half);
  return f16_to_f32(half);
}

// d, q[32]
void read_q8_0(uint8_t* row, const uint8_t* block, int64_t n) {
  for (int64_t i = 0; i < n; i += kBlock, block += 34) {
    memcpy(row + i, block + 2, kBlock);
    memcpy(row + n + i / kBlock * 2, block, 2);
  }
}

// d, or d and m, then four-bit quants: byte i has element i in its low half and element i + 16 in its high half.
template <int kHead>
void read_q4(uint8_t* row, const uint8_t* block, int64_t n) {
  constexpr int64_t kBytes = kHead + 16;
  const uint8_t* const first = block;
  int64_t i = 0;
  for (; i + 2 * kBlock <= n; i += 2 * kBlock, block += 2 * kBytes) {
    const uint8_t *a = block + kHead, *b = a + kBytes;
    uint8_t* out = row + i / 2;
    for (int k = 0; k < 16; k++) {
      out[k] = static_cast<uint8_t>((a[k] & 15) | b[k] << 4);
      out[16 + k] = static_cast<uint8_t>(a[k] >> 4 | (b[k] & 0xf0));
    }
  }
  if (i < n) memcpy(row + i / 2, block + kHead, 16);
  uint8_t* scales = row + n / 2;
  for (int64_t part = 0; part < kHead; part += 2) {
    for (int64_t k = 0; k < n / kBlock; k++, scales += 2) memcpy(scales, first + k * kBytes + part, 2);
  }
}

// d, or d and m, the fifth bits of 32 elements, q4[16]: x = d (q - 16), or x = d q + m
template <bool kHasMin>
void unpack_q5(float* x, const uint8_t* block) {
  const uint8_t* fifth = block + (kHasMin ? 4 : 2);
  const float d = f16_at(block), m = kHasMin ? f16_at(block + 2) : 0;
  uint32_t high;
  memcpy(&high, fifth, sizeof high);
  for (int i = 0; i < 32; i++) {
    const int low = fifth[4 + i % 16] >> i / 16 * 4 & 15, q = low | static_cast<int>(high >> i & 1) << 4;
    const float step = d * static_cast<float>(kHasMin ? q : q - 16);
    // without m: adding 0 would turn -0 into 0
    x[i] = kHasMin ? step + m : step;
  }
}

// Q4_K and Q5_K: d, dmin, 12 bytes with eight pairs (scale, min) of six bits, one pair for 32 elements; in Q5_K the fifth bits
// (bit j of byte i: element i of group j); then q4[128], 32 bytes for two groups.
//   x = d scale q - dmin min
template <bool kFive>
void unpack_q45_k(float* x, const uint8_t* block) {
  const float d = f16_at(block), dmin = f16_at(block + 2);
  const uint8_t *s = block + 4, *high = block + 16, *q = block + (kFive ? 48 : 16);
  for (int j = 0; j < 8; j++) {
    const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | (s[j - 4] >> 6) << 4;
    const int min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | (s[j] >> 6) << 4;
    const float step = d * static_cast<float>(scale), least = dmin * static_cast<float>(min);
    for (int i = 0; i < 32; i++) {
      int value = q[j / 2 * 32 + i] >> j % 2 * 4 & 15;
      if (kFive) value |= (high[i] >> j & 1) << 4;
      x[j * 32 + i] = step * static_cast<float>(value) - least;
    }
  }
}

// q4[128], the upper two bits [64], int8 scales[16] of 16 elements each, d: x = d scale (q - 32). Each half of the block has
// 64, 32 and 8 bytes of these; 32 elements have their upper bits at the same place of a byte.
void unpack_q6_k(float* x, const uint8_t* block) {
  const float d = f16_at(block + 208);
  for (int i = 0; i < 256; i++) {
    const int half = i / 128, group = i % 128 / 32, k = i % 32;
    const int low = block[half * 64 + group % 2 * 32 + k] >> group / 2 * 4 & 15;
    const int high = block[128 + half * 32 + k] >> group * 2 & 3;
    const float scale = static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
    x[i] = d * scale * static_cast<float>((low | high << 4) - 32);
  }
}

template <int kElements, int kBytes, void (*unpack)(float*, const uint8_t*)>
void read_as_f16(uint8_t* row, const uint8_t* block, int64_t n) {
  float x[kElements];
  for (int64_t i = 0; i < n; i += kElements, block += kBytes) {
    unpack(x, block);
    convert(row + i * 2, Dtype::f16, x, Dtype::f32, kElements);
  }
}

struct Numbered {
  uint32_t id;
  BlockType type;
};

constexpr Numbered kTypes[] = {
    {0, {"F32", 1, 4, Dtype::f32}},
    {1, {"F16", 1, 2, Dtype::f16}},
    {2, {"Q4_0", 32, 18, Dtype::q4_0, read_q4<2>}},
    {3, {"Q4_1", 32, 20, Dtype::q4_1, read_q4<4>}},
    {6, {"Q5_0", 32, 22, Dtype::f16, read_as_f16<32, 22, unpack_q5<false>>}},
    {7, {"Q5_1", 32, 24, Dtype::f16, read_as_f16<32, 24, unpack_q5<true>>}},
    {8, {"Q8_0", 32, 34, Dtype::q8_0, read_q8_0}},
    {12, {"Q4_K", 256, 144, Dtype::f16, read_as_f16<256, 144, unpack_q45_k<false>>}},
    {13, {"Q5_K", 256, 176, Dtype::f16, read_as_f16<256, 176, unpack_q45_k<true>>}},
    {14, {"Q6_K", 256, 210, Dtype::f16, read_as_f16<256, 210, unpack_q6_k>}},
    {24, {"I8", 1, 1, Dtype::i8}},
    {25, {"I16", 1, 2, Dtype::i16}},
    {26, {"I32", 1, 4, Dtype::i32}},
    {27, {"I64", 1, 8, Dtype::i64}},
    {28, {"F64", 1, 8, Dtype::f64}},
    {30, {"BF16", 1, 2, Dtype::bf16}},
    // not read
    {9, {"Q8_1"}}, {10, {"Q2_K"}}, {11, {"Q3_K"}}, {16, {"IQ2_XXS"}}, {17, {"IQ2_XS"}}, {18, {"IQ3_XXS"}},
    {19, {"IQ1_S"}}, {20, {"IQ4_NL"}}, {21, {"IQ3_S"}}, {22, {"IQ2_S"}}, {23, {"IQ4_XS"}}, {29, {"IQ1_M"}},
    {34, {"TQ1_0"}}, {35, {"TQ2_0"}}, {39, {"MXFP4"}},
};

}  // namespace

const BlockType* block_type(uint32_t id) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [=](const Numbered& t) { return t.id == id; });
  return found == std::end(kTypes) ? nullptr : &found->type;
}

}  // namespace supra
