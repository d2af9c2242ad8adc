#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "nn/decoder.h"

// Which model a state belongs to.

namespace supra {

// A hash of 64-bit words, each step a bijection of what was before: if one word changes, so does the result.
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

// What a state must fit.
struct Fingerprint {
  uint64_t config = 0;   // of all that describes the model
  uint64_t weights = 0;  // of the names, shapes, dtypes and some bytes of all weights
  char dtype[8] = {};    // of the embedding, and so of the matrices
  uint64_t floats = 0;   // of a recurrent state: what has 16 bits fills half of one
  uint64_t logits = 0;   // the vocabulary
};

// Reads 1 KiB of each weight, for training changes all of it. The weights are in the processor's memory.
Fingerprint fingerprint_of(Decoder& decoder, uint64_t state_bytes);

// The hashes in hexadecimal digits, with a hyphen between: "config-weights".
std::string to_text(const Fingerprint& model);

}  // namespace supra
