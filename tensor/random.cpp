#include "tensor/random.h"

#include <cmath>

namespace supra {

void philox_block(uint32_t out[4], uint64_t counter, uint64_t stream, uint64_t seed) {
  uint32_t c[4] = {static_cast<uint32_t>(counter), static_cast<uint32_t>(counter >> 32), static_cast<uint32_t>(stream),
                   static_cast<uint32_t>(stream >> 32)};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t next[4] = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
                              static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    for (int i = 0; i < 4; i++) c[i] = next[i];
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  for (int i = 0; i < 4; i++) out[i] = c[i];
}

uint32_t Philox::next() {
  const uint64_t index = position_ / 4;
  if (index != block_index_) {
    philox_block(block_, index, stream_, seed_);
    block_index_ = index;
  }
  return block_[position_++ % 4];
}

double Philox::uniform() { return next() * 0x1p-32; }

double Philox::normal() {
  // 1 - u is never zero, so the logarithm is finite
  const double u = 1.0 - uniform(), angle = 2 * M_PI * uniform();
  return std::sqrt(-2 * std::log(u)) * std::cos(angle);
}

uint64_t Philox::below(uint64_t n) {
  const uint64_t limit = ~uint64_t{0} - ~uint64_t{0} % n;
  while (true) {
    const uint64_t high = next(), value = high << 32 | next();
    if (value < limit) return value % n;
  }
}

}  // namespace supra
