#pragma once
#include <stdint.h>

// The arguments of the kernels of attention operations: one head of one document. Pointers point to its first time step;
// *_step is the number of elements from one step to the next.

namespace supra {

// Rows of scratch memory are padded to whole vectors of every level.
static constexpr int64_t padded(int64_t n) { return (n + 15) / 16 * 16; }

// The time steps of a chunk. A longer chunk means more work inside it and fewer reads and writes of the state.
constexpr int64_t kLargestChunk = 64;
static constexpr int64_t linear_chunk(int64_t K, int64_t V) { return K * V <= 32 * 32 ? 32 : kLargestChunk; }

// A head of linear attention or of the delta rule. T is float for the fast code, double for the reference.
template <class T>
struct StateHead {
  int64_t steps, K, V;
  int64_t chunk;  // linear_chunk(K, V)
  const T *q, *k, *v;
  int64_t q_step, k_step, v_step, o_step;
  int64_t token_step;  // of arrays with one number per step
  T scale;             // of linear attention
  const T* powers;     // g^0 ... g^chunk of a fixed decay; null: log_decay is used
  const T* log_decay;
  int64_t log_decay_step;  // 0: a fixed decay
  const T* state;          // (K,V) before the first step; null: zeros
  const T* beta;           // of the delta rule; null: linear attention
  T* errors;               // strides of o: the e_t of the delta rule, saved for backward; may be null in forward
  T* rstd;                 // 1 / deviation of every output of linear attention; null: they are not normalised
  T norm_eps;
  const T* y;  // the outputs; backward needs them if they are normalised
};

template <class T>
struct StateGrads {
  T *dq, *dk, *dv;    // steps of q, k, v
  T* dstate;          // (K,V): the gradient of the last state on entry, of the first on return
  T* dlog_decay;      // of every step; may be null
  T* dbeta;           // the same, of the delta rule
  bool add_k, add_v;  // dk, dv: += after the first of the heads that share them
};

// Floats of scratch memory that each of these kernels needs at most.
static constexpr int64_t state_scratch(int64_t steps, int64_t K, int64_t V) {
  const int64_t n = padded(steps < kLargestChunk ? steps : kLargestChunk), k = padded(K), v = padded(V);
  return 5 * n * n + 6 * n + 5 * n * k + 6 * n * v + 4 * k * v;
}

// The number of queries and of keys in a block of softmax attention, and the largest number of sinks.
constexpr int64_t kSoftmaxBlock = 64;

template <class T>
struct SoftmaxHead {
  // query t is at key first + t; up to that key it sees the last `window` keys and the first `sinks` keys
  int64_t steps, first, window, sinks, K, V;
  const T *q, *k, *v;
  const T* q_sinks;  // the query for the sinks; the same pointer as q if they do not differ
  int64_t q_step, k_step, v_step, o_step, lse_step;
  T scale, cap;  // a score is scale q k, or with a cap that is not 0: cap tanh(scale q k)
};

template <class T>
struct SoftmaxGrads {
  T *dq, *dk, *dv;  // steps of q, k, v.  dq: =   dk, dv: += (heads may share them)
  T* dq_sinks;      // = ; null if q is used for the sinks
  const T* dlse;    // the gradient of lse; null: 0
};

static constexpr int64_t softmax_scratch(int64_t K, int64_t V) {
  return kSoftmaxBlock * (2 * kSoftmaxBlock + 8 * padded(K) + 5 * padded(V) + 3);
}

}  // namespace supra
