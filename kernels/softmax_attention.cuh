#pragma once
#include <type_traits>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"

// What the kernels of softmax attention share: which keys a query sees, where the tensors of a head begin.

namespace supra::cuda {

// The keys of a query come in two parts: the sinks of its document, which it may meet with a query apart, and the window
// without them. Kernels go through one after the other; without sinks there is the window alone.
enum class Keys { sinks, window };

// f(constant part)
template <class F>
__device__ void each_part(const SoftmaxAttentionSizes& n, F f) {
  if (n.sinks > 0) f(std::integral_constant<Keys, Keys::sinks>());
  f(std::integral_constant<Keys, Keys::window>());
}

// Of one row of the batch: query t sees the keys [from(t), keys(t)) of the part. Both ends grow with t.
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
  // What the queries from t on see next, from `key` on: the sinks of two documents lie apart.
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
  // The first query from t on of which f is true, as it is of all behind it; T where there is none
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

// Head h of a row and what of its queries meets this part of the keys. Queries lie q_step elements apart, and so on; o and
// lse of query t are at o + t o_step and lse + t H from their tensors' beginnings.
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
  T *dq, *dq_sinks, *dk, *dv;  // dq_sinks: null where q meets the sinks
  const T* d_o;
  const float *lse, *delta;  // delta_t = do_t o_t - dlse_t
};

// Do the work on tensor cores where they can: K = V of 64 or 128, tensors aligned to 16 bytes; else return
// false.
bool softmax_attention_fwd_mma(Bf16* o, float* lse, const SoftmaxAttentionInputs<Bf16>& in);
bool softmax_attention_bwd_mma(const SoftmaxAttentionGradients<Bf16>& out,
                               const SoftmaxAttentionInputs<Bf16>& in);

}  // namespace supra::cuda
