#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "nn/decoder.h"

// Identifies the model that a state belongs to.

namespace supra {

// A hash of 64-bit words. Each step is a bijection of the previous value, so a change of one word changes the result.
class Hash {
 public:
  void add(uint64_t word) {
    value_ = (value_ ^ word) * 0x9fb21c651e98df25;
    value_ ^= value_ >> 32;
  }
  void add(const void* data, size_t bytes);
  void add(const std::string& text);
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0x9e3779b97f4a7c15;
};

// A state fits a model whose fingerprint is the same.
struct Fingerprint {
  uint64_t config = 0;   // hash of the config
  uint64_t weights = 0;  // hash of the names, shapes, dtypes and some bytes of all weights
  char dtype[8] = {};    // of the embedding, which the matrices share
  uint64_t floats = 0;   // the size of a recurrent state in units of 4 bytes
  uint64_t logits = 0;   // the vocabulary
};

// Reads only 1 KiB of each weight: training changes all of a weight. The weights must be in the CPU's memory.
Fingerprint fingerprint_of(Decoder& decoder, uint64_t state_bytes);

// Both hashes in hexadecimal: "config-weights".
std::string to_text(const Fingerprint& model);

}  // namespace supra
