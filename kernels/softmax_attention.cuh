#pragma once
#include "kernels/cuda.h"
#include "tensor/cuda.cuh"

// What the kernels of softmax attention share: which keys a query sees, where the tensors of a head begin.

namespace supra::cuda {

// Of one row of the batch: query t sees the keys [from(t), keys(t)). Both ends grow with t.
struct Sight {
  int first, window, T;
  const int32_t* documents;

  __device__ int keys(int t) const { return first + t + 1; }
  __device__ int from(int t) const {
    const int document = documents ? documents[t] : 0, oldest = keys(t) - window;
    return document > oldest ? document : oldest;
  }
  __device__ bool sees(int t, int s) const { return t < T && s < keys(t) && s >= from(t); }
  // All `queries` from t on see all n keys from s on.
  __device__ bool sees_all(int t, int queries, int s, int n) const {
    return t + queries <= T && s + n <= keys(t) && s >= from(t + queries - 1);
  }
  // None of the queries sees any of these keys.
  __device__ bool sees_none(int t, int queries, int s, int n) const {
    return t >= T || s >= keys(t + queries - 1) || s + n <= from(t);
  }
  // The queries [begin_of(s), end_of(s)) are those that see key s.
  __device__ int begin_of(int s) const { return s < first ? 0 : s < first + T ? s - first : T; }
  __device__ int end_of(int s) const {
    int t = begin_of(s);
    for (int end = T; t < end;) {
      const int middle = t + (end - t) / 2;
      if (from(middle) <= s)
        t = middle + 1;
      else
        end = middle;
    }
    return t;
  }
};

// Head h of a row. Queries lie q_step elements apart, and so on; o and lse of query t are at o + t o_step and
// lse + t H from their tensors' beginnings.
template <class T>
struct SoftmaxHead {
  Sight sight;
  const T *q, *k, *v;
  int64_t q_step, k_step, v_step, o_step, k_at, v_at, o, lse;

  __device__ SoftmaxHead(const SoftmaxAttentionInputs<T>& in, int64_t row, int64_t h) {
    const SoftmaxAttentionSizes& n = in.n;
    const int64_t query = row * n.T * n.H + h, key = row * n.S * n.G + h / (n.H / n.G);
    sight = {in.first[row], static_cast<int>(n.window), static_cast<int>(n.T),
             in.documents ? in.documents + row * n.T : nullptr};
    q_step = n.H * n.K, k_step = n.G * n.K, v_step = n.G * n.V, o_step = n.H * n.V;
    k_at = key * n.K, v_at = key * n.V, o = query * n.V, lse = query;
    q = in.q + query * n.K, k = in.k + k_at, v = in.v + v_at;
  }
};

template <class T>
struct SoftmaxAttentionGradients {
  T *dq, *dk, *dv;
  const T* d_o;
  const float *lse, *delta;  // delta_t = do_t o_t
};

// Do the work on tensor cores where they can: K = V of 64 or 128, tensors aligned to 16 bytes; else return
// false.
bool softmax_attention_fwd_mma(Bf16* o, float* lse, const SoftmaxAttentionInputs<Bf16>& in);
bool softmax_attention_bwd_mma(const SoftmaxAttentionGradients<Bf16>& out,
                               const SoftmaxAttentionInputs<Bf16>& in);

}  // namespace supra::cuda
