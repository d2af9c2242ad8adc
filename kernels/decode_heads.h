#pragma once
#include <cstdint>

#include "tensor/dtype.h"

// Softmax attention with one query per head, for both forms of decoding: growing keys, and a ring of keys.

namespace supra {

// Key s, of K elements, is at k + s k_step; q_sinks is used instead of q for the first `sinks` of the n keys.
struct DecodeKeys {
  const void *k, *v;
  Dtype dtype;  // f32 or f16
  int64_t n, sinks, k_step, v_step;
};

// o (heads, V), lse (heads), q and q_sinks (heads, K); a score is scale q k, or with a cap that is not 0: cap tanh(scale q k).
// All heads use these keys; four heads at a time read them once.
void decode_heads(float* o, float* lse, const float* q, const float* q_sinks, const DecodeKeys& keys, int64_t heads, int64_t K,
                  int64_t V, float scale, float cap);

// The slot of a position's key in a ring of sinks + window slots.
constexpr int64_t ring_slot(int64_t position, int64_t sinks, int64_t window) {
  return position < sinks ? position : sinks + (position - sinks) % window;
}

// The grain of a parallel_for over groups of heads that share n keys of `dims` elements, with their values.
inline int64_t decode_grain(int64_t heads, int64_t n, int64_t dims) { return 1 + 16384 / (1 + heads * n * dims); }

}  // namespace supra
