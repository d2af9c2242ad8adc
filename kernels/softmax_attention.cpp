#include <cmath>
#include <type_traits>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cuda_attention.h"
#include "kernels/cuts.h"
#include "kernels/decode_heads.h"
#include "kernels/dispatch.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// softmax_attention: query t, at key first + t, sees the keys s up to there: the last `window` of them and the first
// `sinks`, none before its document
//   p_ts = exp(x_ts - lse_t),  lse_t = log sum_s exp(x_ts),  o_t = sum_s p_ts v_s,  x_ts = scale q_t k_s, or
//   x_ts = cap tanh(y_ts), y_ts = scale q_t k_s, where there is a cap (the kernels' scale has 1 / cap in it)
//   q (B,T,H,K), another for the sinks  k (B,S,G,K)  v (B,S,G,V)  o (B,T,H,V)  lse (B,T,H) saved for backward
// Backward, from the probabilities computed again, with ds_ts = p_ts (do_t v_s - do_t o_t + dlse_t):
//   dq_t = scale sum_s ds_ts k_s    dk_s = scale sum_t ds_ts q_t    dv_s = sum_t p_ts do_t
// with a cap ds_ts takes a factor of cap tanh'(y_ts) = cap - x_ts^2 / cap

namespace supra {
namespace {

struct Sizes {
  int64_t B, T, H, S, G, K, V;
  double scale, cap;
  std::vector<int64_t> first;  // (B)
  int64_t window, sinks;
  std::vector<std::vector<Segment>> documents;  // (B)

  int64_t first_key(int64_t b, Segment document) const { return supra::first_key(first[b], document); }
  int64_t q_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * K; }
  int64_t o_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * V; }
  int64_t lse_at(int64_t b, int64_t t, int64_t h) const { return (b * T + t) * H + h; }
  int64_t k_at(int64_t b, int64_t s, int64_t h) const { return ((b * S + s) * G + h / (H / G)) * K; }
  int64_t v_at(int64_t b, int64_t s, int64_t h) const { return ((b * S + s) * G + h / (H / G)) * V; }
};

template <class T>
struct Inputs {
  const T *q, *q_sinks, *k, *v;  // q_sinks: q where they are the same
};

template <class T>
struct Outputs {
  T *o, *lse;
};

template <class T>
struct Gradients {
  T *dq, *dq_sinks, *dk, *dv;  // dq_sinks: dq, in the fast code null, where q meets the sinks
  const T* dlse;               // may be null
};

// The keys that a query sees: [0, sinks) of its document, which begins at `document`, and [from, end).
struct Seen {
  int64_t document, sinks_end, from, end;

  // f(s, whether s is a sink)
  template <class F>
  void each(F f) const {
    for (int64_t s = document; s < sinks_end; s++) f(s, true);
    for (int64_t s = from; s < end; s++) f(s, false);
  }
};

// Calls f(b, t, h, what query t of head h sees).
template <class F>
void for_queries(const Sizes& n, F f) {
  for (int64_t b = 0; b < n.B; b++) {
    for (int64_t h = 0; h < n.H; h++) {
      for (const Segment& document : n.documents[b]) {
        for (int64_t t = document.begin; t < document.end; t++) {
          const int64_t end = n.first[b] + t + 1, key = n.first_key(b, document), sinks_end = std::min(key + n.sinks, end);
          f(b, t, h, Seen{key, sinks_end, std::max(sinks_end, end - n.window), end});
        }
      }
    }
  }
}

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

double score_of(const double* q, const double* k, const Sizes& n) {
  const double s = n.scale * dot(q, k, n.K);
  return n.cap > 0 ? n.cap * std::tanh(s) : s;
}

void fwd(const Outputs<double>& out, const Inputs<double>& in, const Sizes& n) {
  std::vector<double> score(n.S);
  for_queries(n, [&](int64_t b, int64_t t, int64_t h, const Seen& seen) {
    double top = -INFINITY, sum = 0;
    seen.each([&](int64_t s, bool sink) {
      score[s] = score_of((sink ? in.q_sinks : in.q) + n.q_at(b, t, h), in.k + n.k_at(b, s, h), n);
      top = std::max(top, score[s]);
    });
    seen.each([&](int64_t s, bool) { sum += std::exp(score[s] - top); });
    const double lse = top + std::log(sum);
    double* o = out.o + n.o_at(b, t, h);
    for (int64_t j = 0; j < n.V; j++) o[j] = 0;
    seen.each([&](int64_t s, bool) {
      const double* v = in.v + n.v_at(b, s, h);
      for (int64_t j = 0; j < n.V; j++) o[j] += std::exp(score[s] - lse) * v[j];
    });
    out.lse[n.lse_at(b, t, h)] = lse;
  });
}

void bwd(const Gradients<double>& grads, const double* d_o, const Outputs<double>& out,
         const Inputs<double>& in, const Sizes& n) {
  for_queries(n, [&](int64_t b, int64_t t, int64_t h, const Seen& seen) {
    const int64_t query = n.q_at(b, t, h), at = n.lse_at(b, t, h);
    const double* dy = d_o + n.o_at(b, t, h);
    const double delta = dot(dy, out.o + n.o_at(b, t, h), n.V) - (grads.dlse ? grads.dlse[at] : 0);
    seen.each([&](int64_t s, bool sink) {
      const double *q = (sink ? in.q_sinks : in.q) + query, *k = in.k + n.k_at(b, s, h), *v = in.v + n.v_at(b, s, h);
      double* dq = (sink ? grads.dq_sinks : grads.dq) + query;
      const double x = score_of(q, k, n), p = std::exp(x - out.lse[at]);
      const double ds = p * (dot(dy, v, n.V) - delta) * (n.cap > 0 ? n.cap - x * x / n.cap : 1);
      for (int64_t i = 0; i < n.K; i++) dq[i] += n.scale * ds * k[i];
      for (int64_t i = 0; i < n.K; i++) grads.dk[n.k_at(b, s, h) + i] += n.scale * ds * q[i];
      for (int64_t j = 0; j < n.V; j++) grads.dv[n.v_at(b, s, h) + j] += p * dy[j];
    });
  });
}

SoftmaxAttentionHead head_of(const Inputs<float>& in, const Sizes& n, int64_t b, Segment document, int64_t h) {
  const int64_t t = document.begin, key = n.first_key(b, document);
  SoftmaxAttentionHead head = {};
  head.steps = document.end - t, head.first = n.first[b] + t - key, head.window = n.window, head.sinks = n.sinks;
  head.K = n.K, head.V = n.V;
  head.q_sinks = in.q_sinks + n.q_at(b, t, h), head.q = in.q + n.q_at(b, t, h), head.k = in.k + n.k_at(b, key, h), head.v = in.v + n.v_at(b, key, h);
  head.q_step = n.H * n.K, head.k_step = n.G * n.K, head.v_step = n.G * n.V;
  head.o_step = n.H * n.V, head.lse_step = n.H;
  head.scale = static_cast<float>(n.scale), head.cap = static_cast<float>(n.cap);
  return head;
}

// One query a head.
void decode(const Outputs<float>& out, const Inputs<float>& in, const Sizes& n) {
  parallel_for(n.B * n.G, decode_grain(n.H / n.G, n.S, n.K + n.V), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t b = i / n.G, h = i % n.G * (n.H / n.G), keys = std::min(n.first[b] + 1, n.window), from = n.first[b] + 1 - keys;
      const float* q = in.q + n.q_at(b, 0, h);
      decode_heads(out.o + n.o_at(b, 0, h), out.lse + n.lse_at(b, 0, h), q, q,
                   {in.k + n.k_at(b, from, h), in.v + n.v_at(b, from, h), Dtype::f32, keys, 0, n.G * n.K, n.G * n.V},
                   n.H / n.G, n.K, n.V, static_cast<float>(n.scale), static_cast<float>(n.cap));
    }
  });
}

void fwd(const Outputs<float>& out, const Inputs<float>& in, const Sizes& n) {
  if (n.T == 1 && n.sinks == 0) return decode(out, in, n);
  struct Block {
    int64_t b, h, begin;  // queries [begin, begin + kSoftmaxBlock) of the document, as far as it has them
    Segment document;
  };
  std::vector<Block> blocks;
  for (int64_t i = 0; i < n.B * n.H; i++) {
    for (const Segment& document : n.documents[i / n.H]) {
      for (int64_t t = 0; t < document.end - document.begin; t += kSoftmaxBlock)
        blocks.push_back({i / n.H, i % n.H, t, document});
    }
  }
  parallel_for(static_cast<int64_t>(blocks.size()), 1, [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({softmax_attention_scratch(n.K, n.V)});
    for (int64_t i = begin; i < end; i++) {
      const auto [b, h, t, document] = blocks[i];
      const SoftmaxAttentionHead head = head_of(in, n, b, document, h);
      simd().softmax_attention_fwd(out.o + n.o_at(b, document.begin, h), out.lse + n.lse_at(b, document.begin, h), head, t,
                                   std::min(t + kSoftmaxBlock, head.steps), memory.data<float>());
    }
  });
}

// Heads that share a key head add to one gradient: one thread takes them, in order.
void bwd(const Gradients<float>& grads, const float* d_o, const Outputs<float>& out, const Inputs<float>& in,
         const Sizes& n) {
  const int64_t family = n.H / n.G;
  parallel_for(n.B * n.G, 1, [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({softmax_attention_scratch(n.K, n.V)});
    for (int64_t i = begin * family; i < end * family; i++) {
      const int64_t b = i / n.H, h = i % n.H;
      for (const Segment& document : n.documents[b]) {
        const int64_t t = document.begin, key = n.first_key(b, document);
        simd().softmax_attention_bwd(
            {grads.dq + n.q_at(b, t, h), grads.dk + n.k_at(b, key, h), grads.dv + n.v_at(b, key, h),
             grads.dq_sinks ? grads.dq_sinks + n.q_at(b, t, h) : nullptr,
             grads.dlse ? grads.dlse + n.lse_at(b, t, h) : nullptr},
            d_o + n.o_at(b, t, h), out.o + n.o_at(b, t, h), out.lse + n.lse_at(b, t, h),
            head_of(in, n, b, document, h), memory.data<float>());
      }
    }
  });
}

Sizes check(const Tensor& q, const Tensor& q_sinks, const Tensor& k, const Tensor& v, const Scores& scores,
            const std::vector<int64_t>& first, int64_t window, int64_t sinks, const Cuts& cuts) {
  const char* op = "softmax_attention";
  CHECK(q.rank() == 4 && k.rank() == 4 && v.rank() == 4,
        "%s: q is %s, k is %s, v is %s, expected (B,T,heads,dim) each", op, to_string(q.shape()).c_str(),
        to_string(k.shape()).c_str(), to_string(v.shape()).c_str());
  const Sizes n = {q.dim(0), q.dim(1), q.dim(2), k.dim(1), k.dim(2), q.dim(3), v.dim(3), scores.inner(), scores.cap, first,
                   window > 0 ? window : k.dim(1), sinks,
                   segments(op, cuts, std::vector<int64_t>(q.dim(0), q.dim(1)))};
  check_shape(op, "q of the sinks", q_sinks.shape(), q.shape());
  check_shape(op, "k", k.shape(), {n.B, n.S, n.G, n.K});
  check_shape(op, "v", v.shape(), {n.B, n.S, n.G, n.V});
  CHECK(n.G > 0 && n.H % n.G == 0, "%s: %ld query heads cannot share %ld key heads evenly", op,
        static_cast<long>(n.H), static_cast<long>(n.G));
  CHECK(sinks >= 0 && sinks <= kSoftmaxBlock, "%s: %ld sinks, at most %ld are possible", op, static_cast<long>(sinks),
        static_cast<long>(kSoftmaxBlock));
  CHECK(static_cast<int64_t>(first.size()) == n.B, "%s: %zu positions for %ld rows", op, first.size(),
        static_cast<long>(n.B));
  for (int64_t position : first) {
    CHECK(position >= 0 && position <= n.S - n.T, "%s: %ld queries from position %ld on, there are %ld keys",
          op, static_cast<long>(n.T), static_cast<long>(position), static_cast<long>(n.S));
  }
  return n;
}

}  // namespace

Var softmax_attention(const Var& q, const Var& k, const Var& v, const Scores& scores,
                      const std::vector<int64_t>& first, int64_t window, const Cuts& cuts) {
  return softmax_attention_with_sinks(q, {}, k, v, scores, first, window, 0, cuts).o;
}

SoftmaxPart softmax_attention_with_sinks(const Var& q, const Var& q_sinks, const Var& k, const Var& v, const Scores& scores,
                                         const std::vector<int64_t>& first, int64_t window, int64_t sinks, const Cuts& cuts) {
  constexpr Device gpu = Device::cuda;
  const bool apart = q_sinks.defined() && sinks > 0;
  const Var& of_sinks = apart ? q_sinks : q;
  const Sizes n = check(q.value(), of_sinks.value(), k.value(), v.value(), scores, first, window, sinks, cuts);
  const Tensor o = Tensor::empty({n.B, n.T, n.H, n.V}, q.dtype(), q.value().device()),
               lse = Tensor::empty({n.B, n.T, n.H}, sum_dtype(q.dtype()), o.device());
  by_device(
      "softmax_attention", q.value(),
      [&]<class T>(T) {
        fwd(Outputs<T>{o.data<T>(), lse.data<T>()},
            Inputs<T>{q.value().data<T>(), of_sinks.value().data<T>(), k.value().data<T>(), v.value().data<T>()}, n);
      },
      [&]<class T>(T) {
        const KeysOnGpu rows(n.first, n.documents, n.T);
        cuda::softmax_attention_fwd(o.data<T>(gpu), lse.data<float>(gpu),
                                    inputs_on_gpu<T>(q.value(), of_sinks.value(), k.value(), v.value(), scores, n.window, sinks, rows));
      });
  auto backward = [=, q = q.value(), q_sinks = of_sinks.value(), k = k.value(), v = v.value()](std::span<const Tensor> dy,
                                                                                              Grads& grads) {
    const Tensor d_o = dy[0].defined() ? dy[0] : zeros_like(o), &dlse = dy[1];
    // the GPU writes each once, the CPU adds
    const auto fresh = q.device() == Device::cpu ? zeros_like : empty_like;
    const Tensor dq = fresh(q), dq_sinks = apart ? fresh(q) : Tensor(), dk = fresh(k), dv = fresh(v);
    by_device(
        "softmax_attention", q,
        [&]<class T>(T) {
          T* const dq_of_sinks = apart ? dq_sinks.data<T>() : std::is_same_v<T, double> ? dq.data<T>() : nullptr;
          bwd(Gradients<T>{dq.data<T>(), dq_of_sinks, dk.data<T>(), dv.data<T>(), data_or_null<T>(dlse)}, d_o.data<T>(),
              Outputs<T>{o.data<T>(), lse.data<T>()}, Inputs<T>{q.data<T>(), q_sinks.data<T>(), k.data<T>(), v.data<T>()},
              n);
        },
        [&]<class T>(T) {
          const KeysOnGpu rows(n.first, n.documents, n.T);
          cuda::softmax_attention_bwd(dq.data<T>(gpu), data_or_null<T>(dq_sinks, gpu), dk.data<T>(gpu), dv.data<T>(gpu),
                                      d_o.data<T>(gpu), data_or_null<float>(dlse, gpu), o.data<T>(gpu),
                                      lse.data<float>(gpu), inputs_on_gpu<T>(q, q_sinks, k, v, scores, n.window, sinks, rows));
        });
    grads.give(0, dq);
    grads.give(1, dk);
    grads.give(2, dv);
    if (apart) grads.give(3, dq_sinks);
  };
  std::vector<Var> inputs = {q, k, v};
  if (apart) inputs.push_back(q_sinks);
  const std::vector<Var> outputs = record_many("softmax_attention", inputs, {o, lse}, backward);
  return {outputs[0], outputs[1]};
}

}  // namespace supra
