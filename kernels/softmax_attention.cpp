#include "kernels/softmax_attention.h"

#include <cmath>

#include "kernels/cuda_attention.h"
#include "kernels/decode_heads.h"
#include "kernels/dispatch.h"
#include "kernels/simd.h"

// softmax_attention: query t, at key first + t, sees the keys s up to there: the last `window` of them and the first
// `sinks`, none before its document
//   p_ts = exp(x_ts - lse_t),  lse_t = log sum_s exp(x_ts),  o_t = sum_s p_ts v_s,  x_ts = scale q_t k_s
//   with a cap: x_ts = cap tanh(scale q_t k_s), and the kernels' scale is divided by the cap
//   q (B,T,H,K), another for the sinks  k (B,S,G,K)  v (B,S,G,V)  o (B,T,H,V)  lse (B,T,H) saved for backward
// Backward, from the probabilities computed again, with ds_ts = p_ts (do_t v_s - do_t o_t + dlse_t):
//   dq_t = scale sum_s ds_ts k_s    dk_s = scale sum_t ds_ts q_t    dv_s = sum_t p_ts do_t
//   with a cap: ds_ts is multiplied by the slope of the cap, cap - x_ts^2 / cap

namespace supra {
namespace {

// f(s, whether s is a sink) for the keys that query t sees
template <class F>
void for_keys(const SoftmaxHead<double>& head, int64_t t, F f) {
  const int64_t end = head.first + t + 1, sinks = std::min(head.sinks, end);
  for (int64_t s = 0; s < sinks; s++) f(s, true);
  for (int64_t s = std::max(sinks, end - head.window); s < end; s++) f(s, false);
}

double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

double score_of(const double* q, const double* k, const SoftmaxHead<double>& head) {
  const double s = head.scale * dot(q, k, head.K);
  return head.cap > 0 ? head.cap * std::tanh(s) : s;
}

// The reference. Queries [begin, end), as the fast code.
void fwd(double* o, double* lse, const SoftmaxHead<double>& head, int64_t begin, int64_t end, double*) {
  std::vector<double> score(head.first + end);
  for (int64_t t = begin; t < end; t++) {
    double top = -INFINITY, sum = 0;
    for_keys(head, t, [&](int64_t s, bool sink) {
      score[s] = score_of((sink ? head.q_sinks : head.q) + t * head.q_step, head.k + s * head.k_step, head);
      top = std::max(top, score[s]);
    });
    for_keys(head, t, [&](int64_t s, bool) { sum += std::exp(score[s] - top); });
    const double log_sum = lse[t * head.lse_step] = top + std::log(sum);
    double* y = o + t * head.o_step;
    std::fill_n(y, head.V, 0);
    for_keys(head, t, [&](int64_t s, bool) {
      const double* v = head.v + s * head.v_step;
      for (int64_t j = 0; j < head.V; j++) y[j] += std::exp(score[s] - log_sum) * v[j];
    });
  }
}

void bwd(const SoftmaxGrads<double>& grads, const double* d_o, const double* o, const double* lse,
         const SoftmaxHead<double>& head, double*) {
  for (int64_t t = 0; t < head.steps; t++) {
    const int64_t query = t * head.q_step, at = t * head.lse_step;
    const double* dy = d_o + t * head.o_step;
    const double delta = dot(dy, o + t * head.o_step, head.V) - (grads.dlse ? grads.dlse[at] : 0);
    for_keys(head, t, [&](int64_t s, bool sink) {
      const double *q = (sink ? head.q_sinks : head.q) + query, *k = head.k + s * head.k_step;
      const double* v = head.v + s * head.v_step;
      double* dq = (sink && grads.dq_sinks ? grads.dq_sinks : grads.dq) + query;
      const double x = score_of(q, k, head), p = std::exp(x - lse[at]);
      const double ds = p * (dot(dy, v, head.V) - delta) * (head.cap > 0 ? head.cap - x * x / head.cap : 1);
      for (int64_t i = 0; i < head.K; i++) dq[i] += head.scale * ds * k[i];
      for (int64_t i = 0; i < head.K; i++) grads.dk[s * head.k_step + i] += head.scale * ds * q[i];
      for (int64_t j = 0; j < head.V; j++) grads.dv[s * head.v_step + j] += p * dy[j];
    });
  }
}

void fwd(float* o, float* lse, const SoftmaxHead<float>& head, int64_t begin, int64_t end, float* memory) {
  simd().softmax_attention_fwd(o, lse, head, begin, end, memory);
}

void bwd(const SoftmaxGrads<float>& grads, const float* d_o, const float* o, const float* lse, const SoftmaxHead<float>& head,
         float* memory) {
  simd().softmax_attention_bwd(grads, d_o, o, lse, head, memory);
}

// Where a head of a document begins: its first query among those of all rows and heads, and the first key that it sees.
struct Place {
  int64_t query, key;

  Place(const SoftmaxCall& c, int64_t b, Segment document, int64_t h)
      : query((b * c.T + document.begin) * c.H + h),
        key((b * c.S + first_key(c.first[b], document)) * c.G + h / (c.H / c.G)) {}
};

template <class T>
SoftmaxHead<T> head_at(const Place& p, const SoftmaxCall& c, int64_t b, Segment document) {
  const int64_t key = first_key(c.first[b], document);
  SoftmaxHead<T> head = {};
  head.steps = document.end - document.begin, head.first = c.first[b] + document.begin - key;
  head.window = c.window, head.sinks = c.sinks, head.K = c.K, head.V = c.V;
  head.q = c.q.data<T>() + p.query * c.K, head.q_sinks = c.q_sinks.data<T>() + p.query * c.K;
  head.k = c.k.data<T>() + p.key * c.K, head.v = c.v.data<T>() + p.key * c.V;
  head.q_step = c.H * c.K, head.k_step = c.G * c.K, head.v_step = c.G * c.V, head.o_step = c.H * c.V, head.lse_step = c.H;
  head.scale = static_cast<T>(c.scores.inner()), head.cap = static_cast<T>(c.scores.cap);
  return head;
}

// One query per head.
void decode(const SoftmaxCall& c) {
  const int64_t sharing = c.H / c.G;
  parallel_each(c.B * c.G, decode_grain(sharing, c.S, c.K + c.V), [&](int64_t i) {
    const int64_t b = i / c.G, keys = std::min(c.first[b] + 1, c.window), from = c.first[b] + 1 - keys;
    const Place p(c, b, {0, 1}, i % c.G * sharing);
    const SoftmaxHead<float> head = head_at<float>(p, c, b, {0, 1});
    decode_heads(at<float>(c.o, p.query * c.V), at<float>(c.lse, p.query), head.q, head.q,
                 {head.k + from * head.k_step, head.v + from * head.v_step, Dtype::f32, keys, 0, head.k_step, head.v_step},
                 sharing, c.K, c.V, head.scale, head.cap);
  });
}

template <class T>
void fwd(const SoftmaxCall& c) {
  if (std::is_same_v<T, float> && c.T == 1 && c.sinks == 0) return decode(c);
  struct Block {
    int64_t b, h, begin;  // queries [begin, begin + kSoftmaxBlock) of the document, as far as it has them
    Segment document;
  };
  std::vector<Block> blocks;
  for (int64_t i = 0; i < c.B * c.H; i++) {
    for (const Segment& document : c.documents[i / c.H]) {
      for (int64_t t = 0; t < document.end - document.begin; t += kSoftmaxBlock)
        blocks.push_back({i / c.H, i % c.H, t, document});
    }
  }
  parallel_for(std::ssize(blocks), 1, [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({softmax_scratch(c.K, c.V)}, dtype_of<T>());
    for (int64_t i = begin; i < end; i++) {
      const auto [b, h, t, document] = blocks[i];
      const Place p(c, b, document, h);
      const SoftmaxHead<T> head = head_at<T>(p, c, b, document);
      fwd(at<T>(c.o, p.query * c.V), at<T>(c.lse, p.query), head, t, std::min(t + kSoftmaxBlock, head.steps), memory.data<T>());
    }
  });
}

// Heads that share a key head add to the same gradient, so one thread computes them in order.
template <class T>
void bwd(const SoftmaxCallGrads& d, const SoftmaxCall& c) {
  const int64_t family = c.H / c.G;
  parallel_for(c.B * c.G, 1, [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({softmax_scratch(c.K, c.V)}, dtype_of<T>());
    for (int64_t i = begin * family; i < end * family; i++) {
      const int64_t b = i / c.H;
      for (const Segment& document : c.documents[b]) {
        const Place p(c, b, document, i % c.H);
        const SoftmaxGrads<T> grads = {at<T>(d.dq, p.query * c.K), at<T>(d.dk, p.key * c.K), at<T>(d.dv, p.key * c.V),
                                       at<T>(d.dq_sinks, p.query * c.K), at<T>(d.dlse, p.query)};
        bwd(grads, at<T>(d.d_o, p.query * c.V), at<T>(c.o, p.query * c.V), at<T>(c.lse, p.query), head_at<T>(p, c, b, document),
            memory.data<T>());
      }
    }
  });
}

constexpr const char* kOp = "softmax_attention";

}  // namespace

SoftmaxCall::SoftmaxCall(const Tensor& q, const Tensor& q_sinks, const Tensor& k, const Tensor& v, const Scores& scores,
                         const std::vector<int64_t>& first, int64_t window, int64_t sinks, const Cuts& cuts)
    : q(q), q_sinks(q_sinks), k(k), v(v), scores(scores), first(first), window(window), sinks(sinks) {
  check_heads(kOp, q, k, v);
  B = q.dim(0), T = q.dim(1), H = q.dim(2), S = k.dim(1), G = k.dim(2), K = q.dim(3), V = v.dim(3);
  if (window == 0) this->window = S;
  documents = segments(kOp, cuts, std::vector<int64_t>(B, T));
  check_shape(kOp, "q of the sinks", q_sinks.shape(), q.shape());
  check_shape(kOp, "k", k.shape(), {B, S, G, K});
  check_shape(kOp, "v", v.shape(), {B, S, G, V});
  CHECK(sinks >= 0 && sinks <= kSoftmaxBlock, "%s: %ld sinks, at most %ld are possible", kOp, static_cast<long>(sinks),
        static_cast<long>(kSoftmaxBlock));
  CHECK(window >= 0, "%s: a window of %ld keys, expected 0 (all) or more", kOp, static_cast<long>(window));
  CHECK(std::ssize(first) == B, "%s: %zu positions for %ld rows", kOp, first.size(), static_cast<long>(B));
  for (int64_t position : first) {
    CHECK(position >= 0 && position <= S - T, "%s: %ld queries from position %ld on, there are %ld keys", kOp,
          static_cast<long>(T), static_cast<long>(position), static_cast<long>(S));
  }
  o = Tensor::empty({B, T, H, V}, q.dtype(), q.device());
  lse = Tensor::empty({B, T, H}, sum_dtype(q.dtype()), q.device());
}

Var softmax_attention(const Var& q, const Var& k, const Var& v, const Scores& scores, const std::vector<int64_t>& first,
                      int64_t window, const Cuts& cuts) {
  return softmax_attention_with_sinks(q, {}, k, v, scores, first, window, 0, cuts).o;
}

SoftmaxPart softmax_attention_with_sinks(const Var& q, const Var& q_sinks, const Var& k, const Var& v, const Scores& scores,
                                         const std::vector<int64_t>& first, int64_t window, int64_t sinks, const Cuts& cuts) {
  const bool apart = q_sinks.defined() && sinks > 0;
  const SoftmaxCall c(q.value(), (apart ? q_sinks : q).value(), k.value(), v.value(), scores, first, window, sinks, cuts);
  by_device(
      kOp, c.q, [&]<class T>(T) { fwd<T>(c); }, [&]<class T>(T) { cuda::softmax_attention_fwd<T>(c); });
  auto backward = [c, apart](std::span<const Tensor> dy, Grads& grads) {
    // the GPU writes each gradient once, the CPU adds
    const auto fresh = c.q.device() == Device::cpu ? zeros_like : empty_like;
    const SoftmaxCallGrads d = {dy[0].defined() ? dy[0] : zeros_like(c.o), dy[1], fresh(c.q), fresh(c.k), fresh(c.v),
                                apart ? fresh(c.q) : Tensor()};
    by_device(
        kOp, c.q, [&]<class T>(T) { bwd<T>(d, c); }, [&]<class T>(T) { cuda::softmax_attention_bwd<T>(d, c); });
    grads.give(0, d.dq);
    grads.give(1, d.dk);
    grads.give(2, d.dv);
    if (apart) grads.give(3, d.dq_sinks);
  };
  std::vector<Var> inputs = {q, k, v};
  if (apart) inputs.push_back(q_sinks);
  const std::vector<Var> outputs = record_many(kOp, inputs, {c.o, c.lse}, backward);
  return {outputs[0], outputs[1]};
}

}  // namespace supra
