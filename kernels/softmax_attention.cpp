#include <cmath>
#include <vector>

#include "kernels/attention.h"
#include "kernels/cuda.h"
#include "kernels/cuts.h"
#include "kernels/dispatch.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"

// softmax_attention: query t, at key first + t, sees the keys s up to there, the last `window` of them and none before
// its document
//   p_ts = exp(scale q_t k_s - lse_t),  lse_t = log sum_s exp(scale q_t k_s),  o_t = sum_s p_ts v_s
//   q (B,T,H,K)  k (B,S,G,K)  v (B,S,G,V)  o (B,T,H,V)  lse (B,T,H) saved for backward
// Backward, from the probabilities computed again, with ds_ts = p_ts (do_t v_s - do_t o_t):
//   dq_t = scale sum_s ds_ts k_s    dk_s = scale sum_t ds_ts q_t    dv_s = sum_t p_ts do_t

namespace supra {
namespace {

struct Sizes {
  int64_t B, T, H, S, G, K, V;
  double scale;
  std::vector<int64_t> first;  // (B)
  int64_t window;
  std::vector<std::vector<Segment>> documents;  // (B)

  // The first key of a document: that of row b's first step, and what the keys hold before it belongs to it.
  int64_t first_key(int64_t b, Segment document) const {
    return document.begin == 0 ? 0 : first[b] + document.begin;
  }
  int64_t q_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * K; }
  int64_t o_at(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * V; }
  int64_t lse_at(int64_t b, int64_t t, int64_t h) const { return (b * T + t) * H + h; }
  int64_t k_at(int64_t b, int64_t s, int64_t h) const { return ((b * S + s) * G + h / (H / G)) * K; }
  int64_t v_at(int64_t b, int64_t s, int64_t h) const { return ((b * S + s) * G + h / (H / G)) * V; }
};

template <class T>
struct Inputs {
  const T *q, *k, *v;
};

template <class T>
struct Outputs {
  T *o, *lse;
};

template <class T>
struct Gradients {
  T *dq, *dk, *dv;
};

// Calls f(b, t, h, from, keys): query t of head h sees the keys [from, keys).
template <class F>
void for_queries(const Sizes& n, F f) {
  for (int64_t b = 0; b < n.B; b++) {
    for (int64_t h = 0; h < n.H; h++) {
      for (const Segment& document : n.documents[b]) {
        for (int64_t t = document.begin; t < document.end; t++) {
          const int64_t keys = n.first[b] + t + 1;
          f(b, t, h, std::max(n.first_key(b, document), keys - n.window), keys);
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

void fwd(const Outputs<double>& out, const Inputs<double>& in, const Sizes& n) {
  std::vector<double> score(n.S);
  for_queries(n, [&](int64_t b, int64_t t, int64_t h, int64_t from, int64_t keys) {
    double top = -INFINITY, sum = 0;
    for (int64_t s = from; s < keys; s++) {
      score[s] = n.scale * dot(in.q + n.q_at(b, t, h), in.k + n.k_at(b, s, h), n.K);
      top = std::max(top, score[s]);
    }
    for (int64_t s = from; s < keys; s++) sum += std::exp(score[s] - top);
    const double lse = top + std::log(sum);
    double* o = out.o + n.o_at(b, t, h);
    for (int64_t j = 0; j < n.V; j++) o[j] = 0;
    for (int64_t s = from; s < keys; s++) {
      const double* v = in.v + n.v_at(b, s, h);
      for (int64_t j = 0; j < n.V; j++) o[j] += std::exp(score[s] - lse) * v[j];
    }
    out.lse[n.lse_at(b, t, h)] = lse;
  });
}

void bwd(const Gradients<double>& grads, const double* d_o, const Outputs<double>& out,
         const Inputs<double>& in, const Sizes& n) {
  for_queries(n, [&](int64_t b, int64_t t, int64_t h, int64_t from, int64_t keys) {
    const double *q = in.q + n.q_at(b, t, h), *dy = d_o + n.o_at(b, t, h);
    const double delta = dot(dy, out.o + n.o_at(b, t, h), n.V);
    for (int64_t s = from; s < keys; s++) {
      const double *k = in.k + n.k_at(b, s, h), *v = in.v + n.v_at(b, s, h);
      const double p = std::exp(n.scale * dot(q, k, n.K) - out.lse[n.lse_at(b, t, h)]);
      const double ds = p * (dot(dy, v, n.V) - delta);
      for (int64_t i = 0; i < n.K; i++) grads.dq[n.q_at(b, t, h) + i] += n.scale * ds * k[i];
      for (int64_t i = 0; i < n.K; i++) grads.dk[n.k_at(b, s, h) + i] += n.scale * ds * q[i];
      for (int64_t j = 0; j < n.V; j++) grads.dv[n.v_at(b, s, h) + j] += p * dy[j];
    }
  });
}

SoftmaxAttentionHead head_of(const Inputs<float>& in, const Sizes& n, int64_t b, Segment document, int64_t h) {
  const int64_t t = document.begin, key = n.first_key(b, document);
  SoftmaxAttentionHead head = {};
  head.steps = document.end - t, head.first = n.first[b] + t - key, head.window = n.window;
  head.K = n.K, head.V = n.V;
  head.q = in.q + n.q_at(b, t, h), head.k = in.k + n.k_at(b, key, h), head.v = in.v + n.v_at(b, key, h);
  head.q_step = n.H * n.K, head.k_step = n.G * n.K, head.v_step = n.G * n.V;
  head.o_step = n.H * n.V, head.lse_step = n.H;
  head.scale = static_cast<float>(n.scale);
  return head;
}

// One query a head: the heads that share a key head read it once, four at a time.
void decode(const Outputs<float>& out, const Inputs<float>& in, const Sizes& n) {
  const int64_t family = n.H / n.G;
  parallel_for(n.B * n.G, 1 + 16384 / (1 + family * n.S * (n.K + n.V)), [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({4 * n.S});
    float* scores = memory.data<float>();
    for (int64_t i = begin; i < end; i++) {
      const int64_t b = i / n.G, keys = std::min(n.first[b] + 1, n.window), from = n.first[b] + 1 - keys;
      for (int64_t j = 0; j < family; j += 4) {
        const int64_t h = i % n.G * family + j, heads = std::min<int64_t>(4, family - j);
        simd().gemm_dots(heads, keys, n.K, in.q + n.q_at(b, 0, h), n.K, in.k + n.k_at(b, from, h), n.G * n.K,
                         false, scores, keys);
        for (int64_t row = 0; row < heads; row++) {
          simd().softmax_row(scores + row * keys, out.lse + n.lse_at(b, 0, h + row), keys,
                             static_cast<float>(n.scale));
        }
        simd().gemm_tile(false, false, heads, n.V, keys, scores, keys, in.v + n.v_at(b, from, h), n.G * n.V,
                         false, out.o + n.o_at(b, 0, h), n.V);
      }
    }
  });
}

void fwd(const Outputs<float>& out, const Inputs<float>& in, const Sizes& n) {
  if (n.T == 1) return decode(out, in, n);
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
            {grads.dq + n.q_at(b, t, h), grads.dk + n.k_at(b, key, h), grads.dv + n.v_at(b, key, h)},
            d_o + n.o_at(b, t, h), out.o + n.o_at(b, t, h), out.lse + n.lse_at(b, t, h),
            head_of(in, n, b, document, h), memory.data<float>());
      }
    }
  });
}

// What the GPU's kernels are told of the rows: where they stand, and their documents where there are cuts.
struct RowsOnGpu {
  Tensor first, documents;

  explicit RowsOnGpu(const Sizes& n) {
    first = Tensor::of(std::vector<int32_t>(n.first.begin(), n.first.end())).to(Device::cuda);
    std::vector<int32_t> begins;
    for (int64_t b = 0; b < n.B; b++) {
      for (const Segment& document : n.documents[b]) {
        begins.resize(b * n.T + document.end, static_cast<int32_t>(n.first_key(b, document)));
        if (document.begin > 0) documents = first;
      }
    }
    if (documents.defined()) documents = Tensor::of(begins).to(Device::cuda);
  }
};

template <class T>
cuda::SoftmaxAttentionInputs<T> inputs_on_gpu(const Tensor& q, const Tensor& k, const Tensor& v, const Sizes& n,
                                              const RowsOnGpu& rows) {
  constexpr Device gpu = Device::cuda;
  return {q.data<T>(gpu), k.data<T>(gpu), v.data<T>(gpu), rows.first.data<int32_t>(gpu),
          data_or_null<int32_t>(rows.documents, gpu),
          {n.B, n.T, n.H, n.S, n.G, n.K, n.V, n.window, static_cast<float>(n.scale)}};
}

Sizes check(const Tensor& q, const Tensor& k, const Tensor& v, double scale,
            const std::vector<int64_t>& first, int64_t window, const Cuts& cuts) {
  const char* op = "softmax_attention";
  CHECK(q.rank() == 4 && k.rank() == 4 && v.rank() == 4,
        "%s: q is %s, k is %s, v is %s, expected (B,T,heads,dim) each", op, to_string(q.shape()).c_str(),
        to_string(k.shape()).c_str(), to_string(v.shape()).c_str());
  const Sizes n = {q.dim(0), q.dim(1), q.dim(2), k.dim(1), k.dim(2), q.dim(3), v.dim(3), scale, first,
                   window > 0 ? window : k.dim(1),
                   segments(op, cuts, std::vector<int64_t>(q.dim(0), q.dim(1)))};
  check_shape(op, "k", k.shape(), {n.B, n.S, n.G, n.K});
  check_shape(op, "v", v.shape(), {n.B, n.S, n.G, n.V});
  CHECK(n.G > 0 && n.H % n.G == 0, "%s: %ld query heads cannot share %ld key heads evenly", op,
        static_cast<long>(n.H), static_cast<long>(n.G));
  CHECK(static_cast<int64_t>(first.size()) == n.B, "%s: %zu positions for %ld rows", op, first.size(),
        static_cast<long>(n.B));
  for (int64_t position : first) {
    CHECK(position >= 0 && position <= n.S - n.T, "%s: %ld queries from position %ld on, there are %ld keys",
          op, static_cast<long>(n.T), static_cast<long>(position), static_cast<long>(n.S));
  }
  return n;
}

}  // namespace

Var softmax_attention(const Var& q, const Var& k, const Var& v, double scale,
                      const std::vector<int64_t>& first, int64_t window, const Cuts& cuts) {
  constexpr Device gpu = Device::cuda;
  const Sizes n = check(q.value(), k.value(), v.value(), scale, first, window, cuts);
  const Tensor o = Tensor::empty({n.B, n.T, n.H, n.V}, q.dtype(), q.value().device()),
               lse = Tensor::empty({n.B, n.T, n.H}, sum_dtype(q.dtype()), o.device());
  by_device(
      "softmax_attention", q.value(),
      [&]<class T>(T) {
        fwd(Outputs<T>{o.data<T>(), lse.data<T>()},
            Inputs<T>{q.value().data<T>(), k.value().data<T>(), v.value().data<T>()}, n);
      },
      [&]<class T>(T) {
        const RowsOnGpu rows(n);
        cuda::softmax_attention_fwd(o.data<T>(gpu), lse.data<float>(gpu),
                                    inputs_on_gpu<T>(q.value(), k.value(), v.value(), n, rows));
      });
  auto backward = [=, q = q.value(), k = k.value(), v = v.value()](const Tensor& dy, Grads& grads) {
    // the GPU writes each once, the CPU adds
    const auto fresh = q.device() == Device::cpu ? zeros_like : empty_like;
    const Tensor dq = fresh(q), dk = fresh(k), dv = fresh(v);
    by_device(
        "softmax_attention", q,
        [&]<class T>(T) {
          bwd(Gradients<T>{dq.data<T>(), dk.data<T>(), dv.data<T>()}, dy.data<T>(),
              Outputs<T>{o.data<T>(), lse.data<T>()}, Inputs<T>{q.data<T>(), k.data<T>(), v.data<T>()}, n);
        },
        [&]<class T>(T) {
          const RowsOnGpu rows(n);
          cuda::softmax_attention_bwd(dq.data<T>(gpu), dk.data<T>(gpu), dv.data<T>(gpu), dy.data<T>(gpu),
                                      o.data<T>(gpu), lse.data<float>(gpu),
                                      inputs_on_gpu<T>(q, k, v, n, rows));
        });
    grads.give(0, dq);
    grads.give(1, dk);
    grads.give(2, dv);
  };
  return record("softmax_attention", {q, k, v}, o, backward);
}

}  // namespace supra
