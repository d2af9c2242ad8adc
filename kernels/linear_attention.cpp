#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cuda_attention.h"
#include "kernels/dispatch.h"
#include "kernels/simd.h"
#include "kernels/state_attention.h"
#include "tensor/parallel.h"

// linear_attention (SUPRA, arXiv 2405.06640): S_t = g_t S_{t-1} + scale k_t v_t^T,  o_t = q_t S_t
//   q (B,T,H,K)  k (B,T,Gk,K)  v (B,T,Gv,V)  log g (H) or (B,T,H)  S (B,H,K,V)  ->  o (B,T,H,V), the last S
// Backward, with dS_t the gradient of S_t, from the last step to the first:
//   dS_t = g_{t+1} dS_{t+1} + q_t^T do_t
//   dq_t = S_t do_t    dk_t = scale dS_t v_t    dv_t = scale dS_t^T k_t    d log g_t = g_t <S_{t-1}, dS_t>
// At a cut g_t is 0: a document sees nothing of the one before it. The reference walks these lines as they
// stand. The fast code takes document by document, in chunks of steps, and saves the state that enters each
// but a document's first. With a norm, o goes through groupnorm (groupnorm.cpp), a group a head; the fast
// code does it in place and saves y and rstd (B,T,H). The GPU's code saves no states: each gradient is a
// linear attention, too (linear_attention.cuh).

namespace supra {
namespace {

using Sizes = StateSizes;
template <class T>
using Inputs = StateInputs<T>;

// What the fast code needs to normalise its outputs; rstd is null where it does not.
struct Normed {
  float* rstd;  // (B,T,H)
  float eps;
  const float* y;  // (B,T,H,V), backward only
};

template <class T>
using Gradients = StateGradients<T>;

void fwd(double* o, double* last_state, double*, const Inputs<double>& in, const Normed&, const Sizes& n) {
  for (int64_t head = 0; head < n.B * n.H; head++) {
    const int64_t b = head / n.H, h = head % n.H;
    double* S = last_state + n.state_at(b, h);
    for (int64_t i = 0; i < n.K * n.V; i++) S[i] = in.state ? in.state[n.state_at(b, h) + i] : 0;
    for (int64_t t = 0; t < n.lengths[b]; t++) {
      const double *q = in.q + n.q_at(b, t, h), *k = in.k + n.k_at(b, t, h), *v = in.v + n.v_at(b, t, h);
      const double g = n.decay(in.log_decay, b, t, h);
      double* y = o + n.o_at(b, t, h);
      for (int64_t i = 0; i < n.K; i++) {
        for (int64_t j = 0; j < n.V; j++) {
          S[i * n.V + j] = g * S[i * n.V + j] + n.scale * k[i] * v[j];
          y[j] += q[i] * S[i * n.V + j];
        }
      }
    }
  }
}

void bwd(const Gradients<double>& grads, const double* d_o, const double*, const Inputs<double>& in,
         const Normed&, const Sizes& n) {
  const int64_t KV = n.K * n.V;
  std::vector<double> states((n.T + 1) * KV);
  for (int64_t head = 0; head < n.B * n.H; head++) {
    const int64_t b = head / n.H, h = head % n.H;
    for (int64_t i = 0; i < KV; i++) states[i] = in.state ? in.state[n.state_at(b, h) + i] : 0;
    for (int64_t t = 0; t < n.lengths[b]; t++) {
      const double *k = in.k + n.k_at(b, t, h), *v = in.v + n.v_at(b, t, h);
      const double g = n.decay(in.log_decay, b, t, h);
      const double* S = &states[t * KV];
      for (int64_t i = 0; i < KV; i++)
        states[(t + 1) * KV + i] = g * S[i] + n.scale * k[i / n.V] * v[i % n.V];
    }
    double* dS = grads.dstate + n.state_at(b, h);
    for (int64_t t = n.lengths[b] - 1; t >= 0; t--) {
      const double *before = &states[t * KV], *S = before + KV;
      const double g = n.decay(in.log_decay, b, t, h);
      double slope = 0;
      for (int64_t i = 0; i < n.K; i++) {
        for (int64_t j = 0; j < n.V; j++) {
          const int64_t ij = i * n.V + j, v = n.v_at(b, t, h) + j;
          const double dy = d_o[n.o_at(b, t, h) + j];
          dS[ij] += in.q[n.q_at(b, t, h) + i] * dy;
          grads.dq[n.q_at(b, t, h) + i] += S[ij] * dy;
          grads.dk[n.k_at(b, t, h) + i] += n.scale * dS[ij] * in.v[v];
          grads.dv[v] += n.scale * dS[ij] * in.k[n.k_at(b, t, h) + i];
          slope += g * before[ij] * dS[ij];
          dS[ij] *= g;
        }
      }
      if (grads.dlog_decay) grads.dlog_decay[n.token_at(b, t, h)] = slope;
    }
  }
}

// g^0 ... g^chunk of each head, from doubles; empty where the decay changes from step to step
std::vector<float> decay_powers(const float* log_decay, const Sizes& n) {
  std::vector<float> powers;
  if (n.decay_by_token) return powers;
  for (int64_t h = 0; h < n.H; h++) {
    for (int64_t i = 0; i <= linear_chunk(n.K, n.V); i++) {
      // the power 0 of a decay of 0 is 1
      powers.push_back(i == 0 ? 1 : static_cast<float>(std::exp(static_cast<double>(log_decay[h]) * i)));
    }
  }
  return powers;
}

LinearAttentionHead head_of(const Inputs<float>& in, const std::vector<float>& powers, const Normed& norm, const Sizes& n, int64_t b,
                            Segment document, int64_t h) {
  const int64_t t = document.begin;
  LinearAttentionHead head = state_head(in, n, b, document, h);
  if (!n.decay_by_token) head.powers = powers.data() + h * (head.chunk + 1);
  head.norm_eps = norm.eps, head.rstd_step = n.H;
  if (norm.rstd) head.rstd = norm.rstd + n.token_at(b, t, h);
  if (norm.y) head.y = norm.y + n.o_at(b, t, h);
  return head;
}

void fwd(float* o, float* last_state, float* states, const Inputs<float>& in, const Normed& norm, const Sizes& n) {
  const std::vector<float> powers = decay_powers(in.log_decay, n);
  const int64_t floats = linear_attention_scratch(n.T, n.K, n.V);
  for_documents("linear_attention", n, floats, [&](int64_t b, Segment document, int64_t h, float* scratch) {
    const int64_t t = document.begin;
    simd().linear_attention_fwd(o + n.o_at(b, t, h), last_state + n.state_at(b, h), states ? states + n.saved_at(b, t, h) : nullptr,
                                head_of(in, powers, norm, n, b, document, h), scratch);
  });
}

void bwd(const Gradients<float>& grads, const float* d_o, const float* states, const Inputs<float>& in, const Normed& norm,
         const Sizes& n) {
  const std::vector<float> powers = decay_powers(in.log_decay, n);
  const int64_t floats = linear_attention_scratch(n.T, n.K, n.V);
  for_documents_back("linear_attention", n, floats, grads.dstate, [&](int64_t b, Segment document, int64_t h, float* scratch) {
    const int64_t t = document.begin;
    simd().linear_attention_bwd(state_grads(grads, n, b, t, h), d_o + n.o_at(b, t, h), states + n.saved_at(b, t, h),
                                head_of(in, powers, norm, n, b, document, h), scratch);
  });
}

// A decay that is the same for every row and step: the sum of what each would have got.
template <class T>
Tensor sum_of_steps(const Tensor& by_token) {
  const int64_t H = by_token.dim(2);
  const Tensor total = Tensor::empty({H}, by_token.dtype());
  for (int64_t h = 0; h < H; h++) {
    double sum = 0;
    for (int64_t i = h; i < by_token.numel(); i += H) sum += by_token.data<T>()[i];
    total.data<T>()[h] = static_cast<T>(sum);
  }
  return total;
}

constexpr Device gpu = Device::cuda;

}  // namespace

LinearAttention linear_attention(const Var& q, const Var& k, const Var& v, const Var& log_decay, double scale,
                                 const Var& state, const std::vector<int64_t>& lengths, double norm_eps,
                                 const Cuts& cuts, const Features& features) {
  const Dtype dtype = q.dtype(), wide = sum_dtype(dtype);
  const Device device = q.value().device();
  const Sizes n = state_sizes("linear_attention", q.value(), k.value(), v.value(), log_decay.value(),
                        state.defined() ? state.value() : Tensor(), scale, lengths, cuts);
  const bool turns = features.rope.layout != Rope::Layout::none, there = is_on_gpu(q.value()), may_fuse = there && dtype == Dtype::bf16;
  const RopeAngles angles =
      may_fuse ? rope_angles(q.shape(), features.rope, features.first, cuts) : RopeAngles();
  if ((turns || features.of_relu) &&
      !(may_fuse && cuda::linear_attention_fuses(
                      inputs_on_gpu<Bf16>(q.value(), k.value(), v.value(), log_decay.value(), {}, {}, scale, angles)))) {
    const auto feature = [&](const Var& x) {
      return rope(features.of_relu ? relu_slope(x) : x, features.rope, features.first, cuts);
    };
    return linear_attention(feature(q), feature(k), v, log_decay, scale, state, lengths, norm_eps, cuts);
  }
  if (norm_eps > 0 && dtype == Dtype::f64) {
    const LinearAttention plain = linear_attention(q, k, v, log_decay, scale, state, lengths, 0, cuts);
    const Shape rows = {-1, q.dim(2) * v.dim(3)};
    return {reshape(groupnorm(reshape(plain.o, rows), q.dim(2), norm_eps), plain.o.shape()), plain.state};
  }
  const Tensor first = state.defined() ? state.value() : Tensor();
  // the fast code writes every step there is, the GPU's those beyond a row's length, too; the reference adds
  const bool zeros = dtype == Dtype::f64 ||
                     (!there && std::any_of(n.lengths.begin(), n.lengths.end(),
                                                           [&](int64_t length) { return length < n.T; }));
  const auto blank = [=](const Shape& shape) {
    return zeros ? Tensor::zeros(shape, dtype) : Tensor::empty(shape, dtype, device);
  };
  const bool keep = will_record({q, k, v, log_decay, state});
  const Tensor o = blank({n.B, n.T, n.H, n.V}), last = Tensor::empty({n.B, n.H, n.K, n.V}, wide, device);
  const Tensor states = keep && dtype == Dtype::f32 && !there
                            ? Tensor::empty({n.B, n.H, n.saved(), n.K, n.V})
                            : Tensor();
  const Tensor rstd = norm_eps > 0 ? Tensor::empty({n.B, n.T, n.H}, Dtype::f32, device) : Tensor();
  const Tensor documents = there ? documents_on_gpu(cuts, n.lengths, n.T) : Tensor();
  by_device(
      "linear_attention", q.value(),
      [&]<class T>(T) {
        fwd(o.data<T>(), last.data<T>(), data_or_null<T>(states),
            state_inputs<T>(q.value(), k.value(), v.value(), log_decay.value(), first),
            {data_or_null<float>(rstd), static_cast<float>(norm_eps), nullptr}, n);
      },
      [&]<class T>(T) {
        cuda::linear_attention_fwd(
            o.data<T>(gpu), data_or_null<float>(rstd, gpu), last.data<float>(gpu),
            inputs_on_gpu<T>(q.value(), k.value(), v.value(), log_decay.value(), first, documents, scale, angles),
            norm_eps);
      });

  auto backward = [=, of_relu = features.of_relu, q = q.value(), k = k.value(), v = v.value(), log_decay = log_decay.value()](
                      std::span<const Tensor> dy, Grads& grads) {
    const Tensor d_o = dy[0].defined() ? dy[0] : Tensor::zeros({n.B, n.T, n.H, n.V}, dtype, device);
    const Tensor dq = blank(q.shape()), dk = blank(k.shape()), dv = blank(v.shape());
    Tensor dstate, ddecay;
    by_device(
        "linear_attention", q,
        [&]<class T>(T) {
          dstate = dy[1].defined() ? dy[1].clone() : Tensor::zeros(last.shape(), dtype);
          if (grads.needs(3)) ddecay = Tensor::zeros({n.B, n.T, n.H}, dtype);
          const Normed norm = {data_or_null<float>(rstd), static_cast<float>(norm_eps),
                               rstd.defined() ? o.data<float>() : nullptr};
          bwd({dq.data<T>(), dk.data<T>(), dv.data<T>(), dstate.data<T>(), data_or_null<T>(ddecay)},
              d_o.data<T>(), data_or_null<T>(states), state_inputs<T>(q, k, v, log_decay, first), norm, n);
          if (ddecay.defined() && !n.decay_by_token) ddecay = sum_of_steps<T>(ddecay);
        },
        [&]<class T>(T) {
          if (grads.needs(4)) dstate = empty_like(last);
          if (grads.needs(3)) ddecay = empty_like(log_decay);
          cuda::linear_attention_bwd({dq.data<T>(gpu), dk.data<T>(gpu), dv.data<T>(gpu),
                                      data_or_null<float>(dstate, gpu), data_or_null<float>(ddecay, gpu)},
                                     d_o.data<T>(gpu), data_or_null<float>(dy[1], gpu), o.data<T>(gpu),
                                     data_or_null<float>(rstd, gpu), last.data<float>(gpu),
                                     inputs_on_gpu<T>(q, k, v, log_decay, first, documents, scale, angles, of_relu));
        });
    grads.give(0, dq);
    grads.give(1, dk);
    grads.give(2, dv);
    grads.give(3, ddecay);
    grads.give(4, dstate);
  };
  const std::vector<Var> outputs =
      record_many("linear_attention", {q, k, v, log_decay, state}, {o, last}, backward);
  return {outputs[0], outputs[1]};
}

Tensor linear_attention_step(const Tensor& state, const Tensor& q, const Tensor& k, const Tensor& v,
                             const Tensor& log_decay, double scale) {
  const Sizes n = state_sizes("linear_attention_step", q, k, v, log_decay, {}, scale, {}, {});
  CHECK(n.T == 1, "linear_attention_step: %ld steps were given, it takes one (use linear_attention)",
        static_cast<long>(n.T));
  const bool grouped = n.Gk == n.Gv && state.rank() == 4 && state.dim(1) == n.Gk;
  const int64_t group = grouped ? n.H / n.Gk : 1;
  check_shape("linear_attention_step", "state", state.shape(), {n.B, n.H / group, n.K, n.V});
  const Tensor o = Tensor::empty({n.B, 1, n.H, n.V}, q.dtype(), q.device());
  if (is_on_gpu(q)) {
    by_device(
        "linear_attention_step", q, [](auto) {},
        [&]<class T>(T) {
          cuda::linear_attention_step(o.data<T>(gpu), state.data<float>(gpu),
                                      inputs_on_gpu<T>(q, k, v, log_decay, state, {}, scale), group);
        });
    return o;
  }
  const Inputs<float> in = state_inputs<float>(q, k, v, log_decay, state);
  float *y = o.data<float>(), *S = state.data<float>();
  parallel_for(n.B * n.H / group, 1 + 16384 / (1 + group * n.K * n.V), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * group; i < end * group; i++) {
      const int64_t b = i / n.H, h = i % n.H;
      const float g = static_cast<float>(std::exp(static_cast<double>(in.log_decay[n.decay_at(b, 0, h)])));
      // the first head of a group adds to its state, the others read it
      simd().linear_attention_step(y + n.o_at(b, 0, h), S + i / group * n.K * n.V, in.q + n.q_at(b, 0, h),
                                   in.k + n.k_at(b, 0, h), in.v + n.v_at(b, 0, h), g,
                                   h % group ? 0 : static_cast<float>(n.scale), n.K, n.V);
    }
  });
  return o;
}

}  // namespace supra
