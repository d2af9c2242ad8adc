#pragma once
#include <cstdint>

// Philox4x32-10 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011): a counter goes in, random bits
// come out. The numbers are the same on every device, and any position can be reached at once, so a resumed run repeats bit for bit.

namespace supra {

// The function itself: 128 bits from a counter and a stream (the 128-bit counter of the paper) and a seed (its key).
void philox_block(uint32_t out[4], uint64_t counter, uint64_t stream, uint64_t seed);

class Philox {
 public:
  // Streams of one seed are independent: one for the weights, one for the data order, and so on.
  explicit Philox(uint64_t seed, uint64_t stream = 0) : seed_(seed), stream_(stream) {}

  uint32_t next();                // 32 random bits
  double uniform();               // [0, 1), 32 bits
  double normal();                // mean 0, variance 1; uses two numbers (Box-Muller)
  uint64_t below(uint64_t n);     // [0, n), n >= 1, without bias

  uint64_t position() const { return position_; }      // numbers drawn so far
  void seek(uint64_t position) { position_ = position; }

 private:
  uint64_t seed_, stream_, position_ = 0;
  uint64_t block_index_ = ~uint64_t{0};
  uint32_t block_[4] = {};
};

}  // namespace supra
