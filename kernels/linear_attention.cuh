#pragma once
#include "kernels/cuda.h"
#include "tensor/cuda.cuh"

// What the kernels of linear attention share: where the tensors of one head begin.

namespace supra::cuda {

template <class T>
struct Head {
  int64_t index, row, h;  // index = row * H + h
  const T *q, *k, *v;     // of the row's first step
  int64_t length;
  const float* log_decay;
  int64_t log_decay_step;

  __device__ Head(const LinearAttentionInputs<T>& in, int64_t i) : index(i), row(i / in.n.H), h(i % in.n.H) {
    const LinearAttentionSizes& n = in.n;
    q = in.q + row * n.T * n.q_step + h * n.K;
    k = in.k + row * n.T * n.k_step + h / (n.H / n.Gk) * n.K;
    v = in.v + row * n.T * n.v_step + h / (n.H / n.Gv) * n.V;
    length = in.lengths ? in.lengths[row] : n.T;
    log_decay = in.log_decay + (n.decay_by_token ? row * n.T * n.H : 0) + h;
    log_decay_step = n.decay_by_token ? n.H : 0;
  }

  // e^-200 is zero already, and sums of what is far below would lose the digits of the rest
  __device__ float log_decay_at(int64_t t) const {
    const float x = log_decay[t * log_decay_step];
    return x < -200 ? -200 : x;
  }
};

// Does the work on tensor cores where they can: K and V of 64 or 128, rows aligned to 16 bytes; else returns
// false.
bool linear_attention_mma(Bf16* o, float* last_state, const LinearAttentionInputs<Bf16>& in);

}  // namespace supra::cuda
