#pragma once
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cuts.h"
#include "kernels/dispatch.h"
#include "tensor/parallel.h"

// Shared by the attention operations with a state, linear_attention.cpp and delta_attention.cpp: their sizes, and the loop over
// heads and documents.

namespace supra {

struct StateSizes {
  int64_t B, T, H, Gk, Gv, K, V;
  bool decay_by_token;
  double scale;
  std::vector<int64_t> lengths;  // (B)
  Cuts cuts;

  int64_t q_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * K; }
  int64_t k_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * Gk + h / (H / Gk)) * K; }
  int64_t v_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * Gv + h / (H / Gv)) * V; }
  int64_t o_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * V; }
  int64_t token_at(int64_t b, int64_t t, int64_t h) const { return (b * T + t) * H + h; }
  int64_t decay_at(int64_t b, int64_t t, int64_t h) const { return decay_by_token ? token_at(b, t, h) : h; }
  int64_t state_at(int64_t b, int64_t h) const { return (b * H + h) * K * V; }
  // The offset of the saved states (B,H,T/chunk,K,V) of a document that begins at t. n steps save
  // (n-1)/chunk states, which end before the next document's.
  int64_t saved() const { return T / linear_chunk(K, V); }
  int64_t saved_at(int64_t b, int64_t t, int64_t h) const { return ((b * H + h) * saved() + t / linear_chunk(K, V)) * K * V; }
  double decay(const double* log_decay, int64_t b, int64_t t, int64_t h) const {
    const bool cut = !cuts.empty() && std::binary_search(cuts[b].begin(), cuts[b].end(), t);
    return cut ? 0 : std::exp(log_decay[decay_at(b, t, h)]);
  }
};

// Throws unless the shapes fit; without lengths every row has T steps.
StateSizes state_sizes(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay, const Tensor& state,
                       double scale, std::vector<int64_t> lengths, const Cuts& cuts);

template <class T>
struct StateInputs {
  const T *q, *k, *v, *log_decay;
  const T* state;  // null: zeros
};

template <class T>
StateInputs<T> state_inputs(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay, const Tensor& state) {
  return {q.data<T>(), k.data<T>(), v.data<T>(), log_decay.data<T>(), data_or_null<T>(state)};
}

template <class T>
struct StateGradients {
  T *dq, *dk, *dv;
  T* dstate;      // gradient of the last state on entry, of the first on return
  T* dlog_decay;  // always (B,T,H); may be null
};

// A head of a document, for the fast code; the powers of a fixed decay are not set yet.
LinearAttentionHead state_head(const StateInputs<float>& in, const StateSizes& n, int64_t b, Segment document, int64_t h);
// The gradients of a head; the document begins at t.
LinearAttentionGrads state_grads(const StateGradients<float>& grads, const StateSizes& n, int64_t b, int64_t t, int64_t h);

// The least number of heads per thread: less work than that costs less than waking a thread.
inline int64_t head_grain(const StateSizes& n) { return 1 + 16384 / (1 + n.T * (n.K + n.V + n.K * n.V / 16)); }

// Calls f(b, document, h, memory of `floats` floats) for the documents of every head, in order: each overwrites the last state
// of the previous one.
template <class F>
void for_documents(const char* op, const StateSizes& n, int64_t floats, F f) {
  const auto documents = segments(op, n.cuts, n.lengths);
  parallel_for(n.B * n.H, head_grain(n), [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({floats});
    for (int64_t i = begin; i < end; i++) {
      for (const Segment& document : documents[i / n.H]) f(i / n.H, document, i % n.H, memory.data<float>());
    }
  });
}

// The same from the last document to the first. Heads that share a key or value head add to the same gradient, so one thread
// processes them in order.
template <class F>
void for_documents_back(const char* op, const StateSizes& n, int64_t floats, float* dstate, F f) {
  const auto documents = segments(op, n.cuts, n.lengths);
  const int64_t family = std::lcm(n.H / n.Gk, n.H / n.Gv);
  parallel_for(n.B * n.H / family, 1 + head_grain(n) / family, [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({floats});
    for (int64_t i = begin * family; i < end * family; i++) {
      const int64_t b = i / n.H, h = i % n.H;
      for (size_t d = documents[b].size(); d-- > 0;) {
        // later documents do not depend on the last state of this one
        if (documents[b][d].end < n.lengths[b]) std::fill_n(dstate + n.state_at(b, h), n.K * n.V, 0.0f);
        f(b, documents[b][d], h, memory.data<float>());
      }
    }
  });
}

}  // namespace supra
