#include <vector>

#include "kernels/cuda_attention.h"
#include "kernels/dispatch.h"
#include "kernels/simd.h"
#include "kernels/state_attention.h"

// delta_attention (Gated Delta Networks, arXiv 2412.06464):
//   S <- g_t S_{t-1}    e_t = v_t - S^T k_t    S_t = S + beta_t k_t e_t^T    o_t = S_t^T q_t
//   q (B,T,H,K)  k (B,T,Gk,K)  v (B,T,Gv,V)  log g, beta (B,T,H)  S (B,H,K,V)  ->  o (B,T,H,V), the last S
// Backward, with dS_t the gradient of S_t, from the last step to the first; S is g_t S_{t-1}, u_t is beta_t e_t:
//   dS_t += q_t do_t^T    dq_t = S_t do_t    du_t = dS_t^T k_t    d beta_t = <du_t, e_t>    dv_t = beta_t du_t
//   dS = dS_t - k_t dv_t^T    dk_t = dS_t u_t - S dv_t    d log g_t = <S, dS>    dS_{t-1} = g_t dS
// At a cut g_t is 0. The reference walks these lines as they stand. The fast code takes document by document, in chunks of steps,
// and saves every e_t and the state that enters each chunk but a document's first. The GPU's code saves no states.

namespace supra {
namespace {

template <class T>
struct DeltaInputs {
  StateInputs<T> of;
  const T* beta;
};

template <class T>
struct DeltaGradients {
  StateGradients<T> of;
  T* dbeta;
};

// One step: e (V), and S (K,V) from S_{t-1} to S_t.
void step(double* S, double* e, const DeltaInputs<double>& in, const StateSizes& n, int64_t b, int64_t t, int64_t h) {
  const double *k = in.of.k + n.k_at(b, t, h), *v = in.of.v + n.v_at(b, t, h);
  const double g = n.decay(in.of.log_decay, b, t, h), beta = in.beta[n.token_at(b, t, h)];
  for (int64_t j = 0; j < n.V; j++) e[j] = v[j];
  for (int64_t i = 0; i < n.K; i++) {
    for (int64_t j = 0; j < n.V; j++) e[j] -= (S[i * n.V + j] *= g) * k[i];
  }
  for (int64_t i = 0; i < n.K; i++) {
    for (int64_t j = 0; j < n.V; j++) S[i * n.V + j] += beta * k[i] * e[j];
  }
}

void fwd(double* o, double* last_state, double*, double*, const DeltaInputs<double>& in, const StateSizes& n) {
  std::vector<double> e(n.V);
  for (int64_t head = 0; head < n.B * n.H; head++) {
    const int64_t b = head / n.H, h = head % n.H;
    double* S = last_state + n.state_at(b, h);
    for (int64_t i = 0; i < n.K * n.V; i++) S[i] = in.of.state ? in.of.state[n.state_at(b, h) + i] : 0;
    for (int64_t t = 0; t < n.lengths[b]; t++) {
      step(S, e.data(), in, n, b, t, h);
      for (int64_t i = 0; i < n.K; i++) {
        for (int64_t j = 0; j < n.V; j++) o[n.o_at(b, t, h) + j] += in.of.q[n.q_at(b, t, h) + i] * S[i * n.V + j];
      }
    }
  }
}

void bwd(const DeltaGradients<double>& grads, const double* d_o, const double*, double*, const DeltaInputs<double>& in,
         const StateSizes& n) {
  const int64_t KV = n.K * n.V;
  std::vector<double> states((n.T + 1) * KV), errors(n.T * n.V), dv(n.V);
  for (int64_t head = 0; head < n.B * n.H; head++) {
    const int64_t b = head / n.H, h = head % n.H;
    for (int64_t i = 0; i < KV; i++) states[i] = in.of.state ? in.of.state[n.state_at(b, h) + i] : 0;
    for (int64_t t = 0; t < n.lengths[b]; t++) {
      std::copy_n(&states[t * KV], KV, &states[(t + 1) * KV]);
      step(&states[(t + 1) * KV], &errors[t * n.V], in, n, b, t, h);
    }
    double* dS = grads.of.dstate + n.state_at(b, h);
    for (int64_t t = n.lengths[b] - 1; t >= 0; t--) {
      const double *before = &states[t * KV], *S = before + KV, *e = &errors[t * n.V], *dy = d_o + n.o_at(b, t, h);
      const double *q = in.of.q + n.q_at(b, t, h), *k = in.of.k + n.k_at(b, t, h);
      const double g = n.decay(in.of.log_decay, b, t, h), beta = in.beta[n.token_at(b, t, h)];
      double *dq = grads.of.dq + n.q_at(b, t, h), *dk = grads.of.dk + n.k_at(b, t, h), slope = 0, dbeta = 0;
      std::fill(dv.begin(), dv.end(), 0);
      for (int64_t ij = 0; ij < KV; ij++) {
        const int64_t i = ij / n.V, j = ij % n.V;
        dS[ij] += q[i] * dy[j];
        dq[i] += S[ij] * dy[j];
        dk[i] += beta * dS[ij] * e[j];
        dbeta += dS[ij] * k[i] * e[j];
        dv[j] += beta * dS[ij] * k[i];
      }
      for (int64_t ij = 0; ij < KV; ij++) {
        const int64_t i = ij / n.V, j = ij % n.V;
        dS[ij] -= k[i] * dv[j];
        dk[i] -= g * before[ij] * dv[j];
        slope += g * before[ij] * dS[ij];
        dS[ij] *= g;
      }
      for (int64_t j = 0; j < n.V; j++) grads.of.dv[n.v_at(b, t, h) + j] += dv[j];
      grads.dbeta[n.token_at(b, t, h)] = dbeta;
      if (grads.of.dlog_decay) grads.of.dlog_decay[n.token_at(b, t, h)] = slope;
    }
  }
}

// One step of one head, S in place; u: memory of V floats.
void step(float* o, float* S, const DeltaInputs<float>& in, const StateSizes& n, int64_t b, int64_t t, int64_t h, float* u) {
  const float *k = in.of.k + n.k_at(b, t, h), *v = in.of.v + n.v_at(b, t, h);
  const float g = static_cast<float>(std::exp(static_cast<double>(in.of.log_decay[n.token_at(b, t, h)])));
  simd().gemm_tile(false, false, 1, n.V, n.K, k, n.K, S, n.V, false, u, n.V);
  for (int64_t j = 0; j < n.V; j++) u[j] = in.beta[n.token_at(b, t, h)] * (v[j] - g * u[j]);
  simd().linear_attention_step(o + n.o_at(b, t, h), S, in.of.q + n.q_at(b, t, h), k, u, g, 1, n.K, n.V);
}

#if defined(SUPRA_INFERENCE)
// Builds for inference alone have no code for chunks: 60 kB less of a program.
void fwd(float* o, float* last_state, float*, float*, const DeltaInputs<float>& in, const StateSizes& n) {
  for_documents("delta_attention", n, n.V, [&](int64_t b, Segment document, int64_t h, float* memory) {
    float* S = last_state + n.state_at(b, h);
    if (in.of.state && document.begin == 0) std::copy_n(in.of.state + n.state_at(b, h), n.K * n.V, S);
    else std::fill_n(S, n.K * n.V, 0.0f);
    for (int64_t t = document.begin; t < document.end; t++) step(o, S, in, n, b, t, h, memory);
  });
}
void bwd(const DeltaGradients<float>&, const float*, const float*, float*, const DeltaInputs<float>&, const StateSizes&) {}
#else
DeltaAttentionHead delta_head(const DeltaInputs<float>& in, float* errors, const StateSizes& n, int64_t b, Segment document, int64_t h) {
  const int64_t t = document.begin;
  return {state_head(in.of, n, b, document, h), in.beta + n.token_at(b, t, h), errors ? errors + n.o_at(b, t, h) : nullptr};
}

void fwd(float* o, float* last_state, float* states, float* errors, const DeltaInputs<float>& in, const StateSizes& n) {
  const int64_t floats = delta_attention_scratch(n.T, n.K, n.V);
  for_documents("delta_attention", n, floats, [&](int64_t b, Segment document, int64_t h, float* memory) {
    const int64_t t = document.begin;
    simd().delta_attention_fwd(o + n.o_at(b, t, h), last_state + n.state_at(b, h), states ? states + n.saved_at(b, t, h) : nullptr,
                               delta_head(in, errors, n, b, document, h), memory);
  });
}

void bwd(const DeltaGradients<float>& grads, const float* d_o, const float* states, float* errors, const DeltaInputs<float>& in,
         const StateSizes& n) {
  const int64_t floats = delta_attention_scratch(n.T, n.K, n.V);
  for_documents_back("delta_attention", n, floats, grads.of.dstate, [&](int64_t b, Segment document, int64_t h, float* memory) {
    const int64_t t = document.begin;
    simd().delta_attention_bwd({state_grads(grads.of, n, b, t, h), grads.dbeta + n.token_at(b, t, h)}, d_o + n.o_at(b, t, h),
                               states + n.saved_at(b, t, h), delta_head(in, errors, n, b, document, h), memory);
  });
}

#endif

StateSizes delta_sizes(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay, const Tensor& beta,
                       const Tensor& state, const std::vector<int64_t>& lengths, const Cuts& cuts) {
  const StateSizes n = state_sizes(op, q, k, v, log_decay, state, 1, lengths, cuts);
  check_shape(op, "log_decay", log_decay.shape(), {n.B, n.T, n.H});
  check_shape(op, "beta", beta.shape(), {n.B, n.T, n.H});
  return n;
}

constexpr Device gpu = Device::cuda;

}  // namespace

LinearAttention delta_attention(const Var& q, const Var& k, const Var& v, const Var& log_decay, const Var& beta, const Var& state,
                                const std::vector<int64_t>& lengths, const Cuts& cuts) {
  const Dtype dtype = q.dtype();
  const Device device = q.value().device();
  const Tensor first = state.defined() ? state.value() : Tensor();
  const StateSizes n =
      delta_sizes("delta_attention", q.value(), k.value(), v.value(), log_decay.value(), beta.value(), first, lengths, cuts);
  check_cuts("delta_attention", cuts, n.lengths);
  const bool on_gpu = is_on_gpu(q.value()), keep = dtype == Dtype::f32 && !on_gpu && will_record({q, k, v, log_decay, beta, state});
  // the GPU's code writes every step there is
  const auto blank = [=](const Shape& shape) { return on_gpu ? Tensor::empty(shape, dtype, gpu) : Tensor::zeros(shape, dtype); };
  const Tensor o = blank({n.B, n.T, n.H, n.V}), last = Tensor::empty({n.B, n.H, n.K, n.V}, sum_dtype(dtype), device);
  const Tensor states = keep ? Tensor::empty({n.B, n.H, n.saved(), n.K, n.V}) : Tensor();
  const Tensor errors = keep || on_gpu ? empty_like(o) : Tensor();
  by_device(
      "delta_attention", q.value(),
      [&]<class T>(T) {
        fwd(o.data<T>(), last.data<T>(), data_or_null<T>(states), data_or_null<T>(errors),
            {state_inputs<T>(q.value(), k.value(), v.value(), log_decay.value(), first), beta.value().data<T>()}, n);
      },
      [&]<class T>(T) {
        const Tensor documents = documents_on_gpu(cuts, n.lengths, n.T);
        cuda::delta_attention_fwd(o.data<T>(gpu), errors.data<T>(gpu), last.data<float>(gpu),
                                  inputs_on_gpu<T>(q.value(), k.value(), v.value(), log_decay.value(), first, documents, 1),
                                  beta.value().data<float>(gpu));
      });

  auto backward = [=, q = q.value(), k = k.value(), v = v.value(), log_decay = log_decay.value(), beta = beta.value()](
                      std::span<const Tensor> dy, Grads& grads) {
    const Tensor d_o = dy[0].defined() ? dy[0] : zeros_like(o);
    const Tensor dq = blank(q.shape()), dk = blank(k.shape()), dv = blank(v.shape()), dbeta = zeros_like(beta);
    const Tensor ddecay = grads.needs(3) ? zeros_like(log_decay) : Tensor();
    Tensor dstate;
    by_device(
        "delta_attention", q,
        [&]<class T>(T) {
          dstate = dy[1].defined() ? dy[1].clone() : zeros_like(last);
          bwd({{dq.data<T>(), dk.data<T>(), dv.data<T>(), dstate.data<T>(), data_or_null<T>(ddecay)}, dbeta.data<T>()}, d_o.data<T>(),
              data_or_null<T>(states), data_or_null<T>(errors), {state_inputs<T>(q, k, v, log_decay, first), beta.data<T>()}, n);
        },
        [&]<class T>(T) {
          const Tensor documents = documents_on_gpu(cuts, n.lengths, n.T);
          if (grads.needs(5)) dstate = empty_like(last);
          cuda::delta_attention_bwd({dq.data<T>(gpu), dk.data<T>(gpu), dv.data<T>(gpu), data_or_null<float>(dstate, gpu),
                                     data_or_null<float>(ddecay, gpu)},
                                    dbeta.data<float>(gpu), d_o.data<T>(gpu), data_or_null<float>(dy[1], gpu), errors.data<T>(gpu),
                                    last.data<float>(gpu), inputs_on_gpu<T>(q, k, v, log_decay, first, documents, 1),
                                    beta.data<float>(gpu));
        });
    const Tensor all[] = {dq, dk, dv, ddecay, dbeta, dstate};
    for (size_t i = 0; i < std::size(all); i++) grads.give(i, all[i]);
  };
  const std::vector<Var> outputs = record_many("delta_attention", {q, k, v, log_decay, beta, state}, {o, last}, backward);
  return {outputs[0], outputs[1]};
}

Tensor delta_attention_step(const Tensor& state, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay,
                            const Tensor& beta) {
  const StateSizes n = delta_sizes("delta_attention_step", q, k, v, log_decay, beta, state, {}, {});
  CHECK(n.T == 1, "delta_attention_step: %ld steps were given, it takes one (use delta_attention)", static_cast<long>(n.T));
  const Tensor o = Tensor::empty({n.B, 1, n.H, n.V}, q.dtype(), q.device());
  if (is_on_gpu(q)) {
    by_device(
        "delta_attention_step", q, [](auto) {},
        [&]<class T>(T) {
          cuda::delta_attention_step(o.data<T>(gpu), state.data<float>(gpu), inputs_on_gpu<T>(q, k, v, log_decay, state, {}, 1),
                                     beta.data<float>(gpu));
        });
    return o;
  }
  const DeltaInputs<float> in = {state_inputs<float>(q, k, v, log_decay, state), beta.data<float>()};
  parallel_for(n.B * n.H, 1 + 16384 / (1 + 2 * n.K * n.V), [&](int64_t begin, int64_t end) {
    std::vector<float> u(n.V);
    for (int64_t i = begin; i < end; i++) {
      const int64_t b = i / n.H, h = i % n.H;
      step(o.data<float>(), state.data<float>() + n.state_at(b, h), in, n, b, 0, h, u.data());
    }
  });
  return o;
}

}  // namespace supra
