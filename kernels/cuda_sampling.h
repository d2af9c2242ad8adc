#pragma once
#include "kernels/sampling.h"

// Sort keys of tokens: on the GPU a search by digits of the keys does what a sort does on the CPU.

namespace supra {

constexpr int kIdBits = 23;  // sums of 2^23 weights fit in 64 bits

// The sort key of a token: larger for a larger logit, and of equal logits for the smaller id. 55 bits; with a logit of 0 for all
// it is the order of ids.
constexpr uint64_t order_of(float logit, int64_t id) {
  // -0 becomes 0
  const uint32_t bits = __builtin_bit_cast(uint32_t, logit + 0.0f);
  const uint32_t ascending = bits >> 31 ? ~bits : bits | 1u << 31;
  return uint64_t{ascending} << kIdBits | ((1 << kIdBits) - 1 - id);
}
constexpr int64_t id_of(uint64_t order) { return (1 << kIdBits) - 1 - static_cast<int64_t>(order & ((1 << kIdBits) - 1)); }

}  // namespace supra
