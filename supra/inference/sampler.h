#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/random.h"

namespace supra {

struct SamplerOptions {
  double temperature = 0.8;     // 0: the most likely token
  int64_t top_k = 0;            // 0: off; only the k most likely
  double top_p = 0.95;          // 1: off; the smallest set whose probability reaches p
  double min_p = 0;             // 0: off; only tokens at least this fraction as likely as the most likely one
  double repeat_penalty = 1;    // 1: off; logits of recent tokens are divided (positive) or multiplied (negative) by it
  int64_t repeat_window = 64;   // how recent
  uint64_t seed = 0;
};

// Chooses the next token from logits. The same seed gives the same text on every machine that gives the same logits.
class Sampler {
 public:
  // Throws Error when an option is outside of its range.
  explicit Sampler(const SamplerOptions& options);

  // logits (O); `recent`: what was read and written so far. Ties go to the smaller id. Throws Error on NaN.
  int32_t choose(std::span<const float> logits, std::span<const int32_t> recent = {});

 private:
  SamplerOptions options_;
  Philox random_;
  struct Candidate {
    float logit;
    int32_t id;
  };
  std::vector<Candidate> candidates_;
};

}  // namespace supra
