#pragma once
#include <cstdint>

// How a token is chosen from logits, identically on the CPU (supra/inference/sampler.cpp) and on the GPU (sampling.cu).
// Weights are integers, so that sums do not depend on the order:
//
//   logits of recent tokens are penalised; temperature 0 takes the largest logit, and of equal ones the smaller id
//   w_i = 2^40 exp((logit_i - largest) / temperature), rounded
//   sort by logit and keep the first top_k; of these, those with w_i >= 2^40 min_p; of these, the shortest prefix
//   whose sum reaches top_p of the sum of all that were kept
//   draw u below 2^32 and take the first token at which the running sum exceeds u / 2^32 of the total. The order is
//   by logit where any token was cut off, else by id

namespace supra {

struct SamplerOptions {
  double temperature = 0.8;     // 0: the most likely token
  int64_t top_k = 0;            // 0: off; only the k most likely
  double top_p = 0.95;          // 1: off; the smallest set whose probability reaches p
  double min_p = 0;             // 0: off; only tokens at least this fraction as likely as the most likely one
  double repeat_penalty = 1;    // 1: off; logits of recent tokens are divided (positive) or multiplied (negative) by it
  int64_t repeat_window = 64;   // how recent
  uint64_t seed = 0;

  constexpr bool cuts() const { return top_k > 0 || top_p < 1 || min_p > 0; }
  constexpr float penalised(float logit) const {
    const float penalty = static_cast<float>(repeat_penalty);
    return logit > 0 ? logit / penalty : logit * penalty;
  }
};

// The weight of a probability relative to the most likely token. Sums of 2^23 weights fit.
constexpr uint64_t to_weight(double p) { return static_cast<uint64_t>(p * 0x1p40 + 0.5); }

// The least sum that reaches the part p of a total, and the least that is above u / 2^32 of it.
constexpr uint64_t share_of(uint64_t total, double p) {
  const double share = p * static_cast<double>(total);
  const uint64_t whole = static_cast<uint64_t>(share);
  return whole + (static_cast<double>(whole) < share);
}
constexpr uint64_t drawn_sum(uint64_t total, uint32_t u) {
  return (total >> 32) * u + ((total & 0xffffffff) * u >> 32) + 1;
}

}  // namespace supra
