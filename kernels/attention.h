#pragma once
#include <stdint.h>

// What attentions say to their fast code: one head of one row. Pointers
// stand at the first time step, *_step counts the floats from a step to the next.

namespace supra {

// Rows of scratch memory are whole vectors at every level.
static constexpr int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// Time steps a chunk. Work within a chunk grows with it, traffic of the state with its inverse.
constexpr int64_t kLargestChunk = 64;
static constexpr int64_t linear_chunk(int64_t K, int64_t V) { return K * V <= 32 * 32 ? 32 : kLargestChunk; }

struct LinearAttentionHead {
  int64_t steps, K, V;
  int64_t chunk;  // linear_chunk(K, V)
  const float *q, *k, *v;
  int64_t q_step, k_step, v_step, o_step;
  float scale;
  const float* powers;  // g^0 ... g^chunk of a fixed decay; null: log_decay is used
  const float* log_decay;
  int64_t log_decay_step;
  const float* state;  // (K,V) before the first step; null: zeros
  // Where the outputs are normalised: 1 / deviation of every step, null otherwise. Backward needs the
  // outputs, too.
  float* rstd;
  int64_t rstd_step;
  float norm_eps;
  const float* y;
};

struct LinearAttentionGrads {
  float *dq, *dk, *dv;  // steps of q, k, v
  float* dstate;        // (K,V): the gradient of the last state on entry, of the first on return
  float* dlog_decay;    // of every step; may be null
  int64_t dlog_decay_step;
  bool add_k, add_v;  // dk, dv: += after the first of the heads that share them
};

// Floats of scratch memory that either direction needs.
static constexpr int64_t linear_attention_scratch(int64_t steps, int64_t K, int64_t V) {
  const int64_t chunk = linear_chunk(K, V), n = padded(steps < chunk ? steps : chunk);
  const int64_t k = padded(K), v = padded(V);
  return 3 * n * n + 4 * n + 5 * n * k + 5 * n * v + 4 * k * v;
}

struct DeltaAttentionHead {
  LinearAttentionHead of;  // its decay changes from step to step, its scale is 1
  const float* beta;       // as far apart as log_decay
  float* errors;           // steps of o: what each write corrected; saved for backward, may be null in forward
};

struct DeltaAttentionGrads {
  LinearAttentionGrads of;
  float* dbeta;  // as far apart as log_decay
};

static constexpr int64_t delta_attention_scratch(int64_t steps, int64_t K, int64_t V) {
  const int64_t n = padded(steps < kLargestChunk ? steps : kLargestChunk);
  return linear_attention_scratch(steps, K, V) + 2 * n * n + 2 * n + n * padded(V);
}

// Queries, and keys, that softmax attention takes at once; and the most sinks.
constexpr int64_t kSoftmaxBlock = 64;

struct SoftmaxAttentionHead {
  // query t stands at key first + t and sees the last `window` up to it, and of the first `sinks` those up to it
  int64_t steps, first, window, sinks, K, V;
  const float *q, *k, *v;
  const float* q_sinks;  // the query for the sinks; the same pointer as q where they do not differ
  int64_t q_step, k_step, v_step, o_step, lse_step;
  float scale;
  float cap;  // 0, or a score is cap tanh(scale q k)
};

struct SoftmaxAttentionGrads {
  float *dq, *dk, *dv;  // steps of q, k, v.  dq: =   dk, dv: += (heads may share them)
  float* dq_sinks;      // = ; null where q meets the sinks
  const float* dlse;    // the gradient of lse; null: 0
};

static constexpr int64_t softmax_attention_scratch(int64_t K, int64_t V) {
  return kSoftmaxBlock * (2 * kSoftmaxBlock + 8 * padded(K) + 5 * padded(V) + 3);
}

}  // namespace supra
