#pragma once
#include <type_traits>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"

// What the kernels of softmax attention share: which keys a query sees, and where the tensors of a head begin.

namespace supra::cuda {

// The keys that a query sees have two parts: the sinks of its document, for which there may be a query of its own, and the
// window without them. Kernels take one part after the other. Without sinks there is only the window.
enum class Keys { sinks, window };

// f(constant part)
template <class F>
__device__ void each_part(const SoftmaxAttentionSizes& n, F f) {
  if (n.sinks > 0) f(std::integral_constant<Keys, Keys::sinks>());
  f(std::integral_constant<Keys, Keys::window>());
}

// Which keys the queries of a row of the batch see: query t sees the keys [from(t), keys(t)) of the part. Both grow with t.
template <Keys part>
struct Sight {
  int first, window, sinks, T;
  const int32_t* documents;

  __device__ int document(int t) const { return documents ? documents[t] : 0; }
  __device__ int newest(int t) const { return first + t; }
  __device__ int keys(int t) const {
    const int all = newest(t) + 1;
    return part == Keys::window ? all : std::min(all, document(t) + sinks);
  }
  __device__ int from(int t) const {
    return part == Keys::window ? std::max(document(t) + sinks, newest(t) + 1 - window) : document(t);
  }
  // The first key, not before `key`, that the queries from t on see: between the sinks of two documents there is a gap.
  __device__ int next(int t, int key) const {
    return part == Keys::window || key < keys(t) ? key : std::max(key, newest(t) + 1);
  }
  __device__ bool sees(int t, int s) const { return t < T && s < keys(t) && s >= from(t); }
  // All `queries` from t on see all n keys from s on.
  __device__ bool sees_all(int t, int queries, int s, int n) const {
    return t + queries <= T && s + n <= keys(t) && s >= from(t + queries - 1);
  }
  // None of the queries sees any of these keys.
  __device__ bool sees_none(int t, int queries, int s, int n) const {
    return t >= T || s >= keys(std::min(t + queries, T) - 1) || s + n <= from(t);
  }
  // The first query from t on for which f is true; T if there is none. f stays true for all queries behind it.
  template <class F>
  __device__ int first_query(int t, F f) const {
    for (int end = T; t < end;) {
      const int middle = t + (end - t) / 2;
      if (f(middle))
        end = middle;
      else
        t = middle + 1;
    }
    return t;
  }
  // The queries [begin_of(s), end_of(s)) are those that see key s.
  __device__ int begin_of(int s) const {
    if (part == Keys::sinks) return first_query(0, [&](int t) { return keys(t) > s; });
    return s < first ? 0 : s < first + T ? s - first : T;
  }
  __device__ int end_of(int s) const {
    return first_query(begin_of(s), [&](int t) { return from(t) > s; });
  }
  __device__ bool is_seen(int s) const { return begin_of(s) < end_of(s); }
};

// Query head h of a row, with the queries for this part of the keys. Two queries lie q_step elements apart, and so on. In their
// tensors, o of query t is at o + t o_step and lse of query t at lse + t H.
template <class T, Keys part = Keys::window>
struct SoftmaxHead {
  Sight<part> sight;
  const T *q, *k, *v;
  int64_t q_step, k_step, v_step, o_step, k_at, v_at, o, lse;

  __device__ SoftmaxHead(const SoftmaxAttentionInputs<T>& in, int64_t row, int64_t h) {
    const SoftmaxAttentionSizes& n = in.n;
    const int64_t query = row * n.T * n.H + h, key = row * n.S * n.G + h / (n.H / n.G);
    sight = {in.first[row], static_cast<int>(n.window), static_cast<int>(n.sinks), static_cast<int>(n.T),
             in.documents ? in.documents + row * n.T : nullptr};
    q_step = n.H * n.K, k_step = n.G * n.K, v_step = n.G * n.V, o_step = n.H * n.V;
    k_at = key * n.K, v_at = key * n.V, o = query * n.V, lse = query;
    q = (part == Keys::sinks ? in.q_sinks : in.q) + query * n.K, k = in.k + k_at, v = in.v + v_at;
  }
};

template <class T>
struct SoftmaxAttentionGradients {
  T *dq, *dq_sinks, *dk, *dv;  // dq_sinks: null if q is also the query for the sinks
  const T* d_o;
  const float *lse, *delta;  // delta_t = do_t o_t - dlse_t
};

// Do the work on tensor cores if they can (K = V of 64 or 128, no cap, tensors aligned to 16 bytes, enough shared memory);
// otherwise they return false.
bool softmax_attention_fwd_mma(Bf16* o, float* lse, const SoftmaxAttentionInputs<Bf16>& in);
bool softmax_attention_bwd_mma(const SoftmaxAttentionGradients<Bf16>& out,
                               const SoftmaxAttentionInputs<Bf16>& in);

}  // namespace supra::cuda
