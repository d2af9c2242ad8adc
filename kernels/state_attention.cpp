#include "kernels/state_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cuda_attention.h"
#include "kernels/cuts.h"
#include "kernels/dispatch.h"
#include "kernels/simd.h"

// Linear attention and the delta rule are one recurrence, for each head:
//   S = g_t S_{t-1}    S_t = S + w_t k_t e_t^T    o_t = q_t S_t
//   linear attention: e_t = v_t, w_t = scale    the delta rule: e_t = v_t - S^T k_t, w_t = beta_t
// Backward, with dS_t the gradient of S_t, from the last step to the first:
//   dS_t += q_t^T do_t    dq_t = S_t do_t    dk_t = w_t dS_t e_t    dv_t = w_t dS_t^T k_t    d beta_t = k_t dS_t e_t
//   the delta rule: dS_t -= k_t dv_t^T, dk_t -= S dv_t
//   d log g_t = <S, dS_t>    dS_{t-1} = g_t dS_t
// The documents of a row are computed one after the other, each from its own first state. The reference computes these
// lines step by step. The fast code computes chunks of steps; it saves every e_t of the delta rule, and the state that enters
// each chunk but a document's first. With norm_eps, the fast code normalises o as groupnorm.cpp does, a group per head. The
// GPU's code saves no states: each gradient is a linear attention, too (linear_attention.cuh).

namespace supra {
namespace {

// S, before the first step
template <class T>
void begin_state(T* S, const StateHead<T>& head) {
  if (head.state)
    std::copy_n(head.state, head.K * head.V, S);
  else
    std::fill_n(S, head.K * head.V, T(0));
}

// f(i, j, ij) for every element ij of a state, i of K and j of V
template <class F>
void for_elements(const StateHead<double>& head, F f) {
  for (int64_t i = 0; i < head.K; i++) {
    for (int64_t j = 0; j < head.V; j++) f(i, j, i * head.V + j);
  }
}

double decay(const StateHead<double>& head, int64_t t) { return std::exp(head.log_decay[t * head.log_decay_step]); }
double weight(const StateHead<double>& head, int64_t t) { return head.beta ? head.beta[t * head.token_step] : head.scale; }

// Step t of the reference: S becomes S_t, e (V) becomes e_t.
void step(double* S, double* e, const StateHead<double>& head, int64_t t) {
  const double *k = head.k + t * head.k_step, *v = head.v + t * head.v_step, g = decay(head, t), w = weight(head, t);
  std::copy_n(v, head.V, e);
  for_elements(head, [&](int64_t i, int64_t j, int64_t ij) {
    S[ij] *= g;
    if (head.beta) e[j] -= S[ij] * k[i];
  });
  for_elements(head, [&](int64_t i, int64_t j, int64_t ij) { S[ij] += w * k[i] * e[j]; });
}

// The reference: one head of one document. e: memory of V numbers
void fwd(double* o, double* S, double*, const StateHead<double>& head, double* e) {
  begin_state(S, head);
  for (int64_t t = 0; t < head.steps; t++) {
    step(S, e, head, t);
    const double* q = head.q + t * head.q_step;
    double* y = o + t * head.o_step;
    for_elements(head, [&](int64_t i, int64_t j, int64_t ij) { y[j] += q[i] * S[ij]; });
  }
}

// dv: memory of V numbers
void bwd(const StateGrads<double>& grads, const double* d_o, const double*, const StateHead<double>& head, double* dv) {
  const int64_t KV = head.K * head.V;
  std::vector<double> states((head.steps + 1) * KV), errors(head.steps * head.V);
  begin_state(states.data(), head);
  for (int64_t t = 0; t < head.steps; t++) {
    std::copy_n(&states[t * KV], KV, &states[(t + 1) * KV]);
    step(&states[(t + 1) * KV], &errors[t * head.V], head, t);
  }
  double* dS = grads.dstate;
  for (int64_t t = head.steps - 1; t >= 0; t--) {
    const double *before = &states[t * KV], *S = before + KV, *e = &errors[t * head.V], *dy = d_o + t * head.o_step;
    const double *q = head.q + t * head.q_step, *k = head.k + t * head.k_step, g = decay(head, t), w = weight(head, t);
    double *dq = grads.dq + t * head.q_step, *dk = grads.dk + t * head.k_step, slope = 0, dw = 0;
    std::fill_n(dv, head.V, 0);
    for_elements(head, [&](int64_t i, int64_t j, int64_t ij) {
      dS[ij] += q[i] * dy[j];
      dq[i] += S[ij] * dy[j];
      dk[i] += w * dS[ij] * e[j];
      dv[j] += w * dS[ij] * k[i];
      dw += dS[ij] * k[i] * e[j];
    });
    for_elements(head, [&](int64_t i, int64_t j, int64_t ij) {
      if (head.beta) dS[ij] -= k[i] * dv[j], dk[i] -= g * before[ij] * dv[j];
      slope += g * before[ij] * dS[ij];
      dS[ij] *= g;
    });
    for (int64_t j = 0; j < head.V; j++) grads.dv[t * head.v_step + j] += dv[j];
    if (grads.dlog_decay) grads.dlog_decay[t * head.token_step] = slope;
    if (grads.dbeta) grads.dbeta[t * head.token_step] = dw;
  }
}

// Step t of the fast code, S in place. u: memory of V floats.
void step(float* o, float* S, const StateHead<float>& head, int64_t t, float scale, float* u) {
  const float *q = head.q + t * head.q_step, *k = head.k + t * head.k_step, *v = head.v + t * head.v_step;
  const float g = static_cast<float>(std::exp(static_cast<double>(head.log_decay[t * head.log_decay_step])));
  if (head.beta) {
    simd().gemm_tile(false, false, 1, head.V, head.K, k, head.K, S, head.V, false, u, head.V);
    for (int64_t j = 0; j < head.V; j++) u[j] = head.beta[t * head.token_step] * (v[j] - g * u[j]);
    v = u;
  }
  simd().linear_attention_step(o + t * head.o_step, S, q, k, v, g, scale, head.K, head.V);
}

void fwd(float* o, float* S, float* states, const StateHead<float>& head, float* memory) {
  const auto kernel = head.beta ? simd().delta_attention_fwd : simd().linear_attention_fwd;
  if (kernel) return kernel(o, S, states, head, memory);
  // builds for inference alone have no chunks of the delta rule: 60 kB less of a program
  begin_state(S, head);
  for (int64_t t = 0; t < head.steps; t++) step(o, S, head, t, 1, memory);
}

void bwd(const StateGrads<float>& grads, const float* d_o, const float* states, const StateHead<float>& head, float* memory) {
  (head.beta ? simd().delta_attention_bwd : simd().linear_attention_bwd)(grads, d_o, states, head, memory);
}

// g^0 ... g^chunk of each head, computed in double; empty if the decay changes from step to step
template <class T>
std::vector<T> decay_powers(const StateCall& c) {
  std::vector<T> powers;
  for (int64_t h = 0; !c.decay_by_token() && h < c.H; h++) {
    // the power 0 of a decay of 0 is 1
    powers.push_back(1);
    for (int64_t i = 1; i <= linear_chunk(c.K, c.V); i++)
      powers.push_back(static_cast<T>(std::exp(static_cast<double>(c.log_decay.data<T>()[h]) * static_cast<double>(i))));
  }
  return powers;
}

// Offsets of a head in the tensors of a call, for a document that begins at step t. i counts the heads of all rows.
struct Place {
  int64_t h, q, k, v, o, token, state, states;

  Place(const StateCall& c, int64_t i, int64_t t) : h(i % c.H) {
    const int64_t row = i / c.H * c.T + t, chunk = linear_chunk(c.K, c.V);
    token = row * c.H + h, q = token * c.K, o = token * c.V;
    k = (row * c.Gk + h / (c.H / c.Gk)) * c.K, v = (row * c.Gv + h / (c.H / c.Gv)) * c.V;
    state = i * c.K * c.V;
    // a document of n steps saves (n - 1) / chunk states, which end before those of the next document
    states = (i * (c.T / chunk) + t / chunk) * c.K * c.V;
  }
};

// Head 0 of row 0.
template <class T>
StateHead<T> first_head(const StateCall& c, const std::vector<T>& powers = {}) {
  StateHead<T> head = {};
  head.K = c.K, head.V = c.V, head.chunk = linear_chunk(c.K, c.V);
  head.q = c.q.data<T>(), head.k = c.k.data<T>(), head.v = c.v.data<T>(), head.y = data_or_null<T>(c.o);
  head.q_step = c.H * c.K, head.k_step = c.Gk * c.K, head.v_step = c.Gv * c.V, head.o_step = c.H * c.V, head.token_step = c.H;
  head.scale = static_cast<T>(c.scale), head.norm_eps = static_cast<T>(c.norm_eps), head.rstd = data_or_null<T>(c.rstd);
  head.log_decay = c.log_decay.data<T>(), head.log_decay_step = c.decay_by_token() ? c.H : 0;
  head.powers = powers.empty() ? nullptr : powers.data();
  head.state = data_or_null<T>(c.state), head.beta = data_or_null<T>(c.beta), head.errors = data_or_null<T>(c.errors);
  return head;
}

// From the first head to the one at p.
template <class T>
StateHead<T> head_at(const Place& p, const StateHead<T>& first, Segment document) {
  StateHead<T> head = first;
  const auto move = [](auto*& at, int64_t n) { at = at ? at + n : at; };
  move(head.q, p.q), move(head.k, p.k), move(head.v, p.v), move(head.y, p.o), move(head.errors, p.o);
  move(head.log_decay, head.log_decay_step > 0 ? p.token : p.h), move(head.powers, p.h * (head.chunk + 1));
  move(head.beta, p.token), move(head.rstd, p.token), move(head.state, p.state);
  if (document.begin > 0) head.state = nullptr;
  head.steps = document.end - document.begin;
  return head;
}

// The least number of heads per thread: less work than that costs less than waking a thread.
int64_t head_grain(const StateCall& c) { return 1 + 16384 / (1 + c.T * (c.K + c.V + c.K * c.V / 16)); }

template <class T>
void fwd(const StateCall& c) {
  const auto documents = segments(c.op, c.cuts, c.lengths);
  const std::vector<T> powers = decay_powers<T>(c);
  const StateHead<T> first = first_head(c, powers);
  const bool in_chunks = !c.beta.defined() || simd().delta_attention_fwd;
  parallel_for(c.B * c.H, head_grain(c), [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({in_chunks ? state_scratch(c.T, c.K, c.V) : c.V}, dtype_of<T>());
    for (int64_t i = begin; i < end; i++) {
      // each document overwrites the last state of the one before
      for (const Segment& document : documents[i / c.H]) {
        const Place p(c, i, document.begin);
        fwd(at<T>(c.o, p.o), at<T>(c.last, p.state), at<T>(c.states, p.states), head_at(p, first, document),
            memory.data<T>());
      }
    }
  });
}

// From the last document to the first. Heads that share a key or value head add to the same gradient, so one thread computes
// them in order.
template <class T>
void bwd(const StateCallGrads& grads, const Tensor& d_o, const StateCall& c) {
  const auto documents = segments(c.op, c.cuts, c.lengths);
  const std::vector<T> powers = decay_powers<T>(c);
  const StateHead<T> first = first_head(c, powers);
  // a fixed decay gets the sum of what each step would get
  const bool sums = grads.dlog_decay.defined() && !c.decay_by_token();
  const Tensor dlog_decay = sums ? Tensor::zeros({c.B, c.T, c.H}, dtype_of<T>()) : grads.dlog_decay;
  const int64_t family = std::lcm(c.H / c.Gk, c.H / c.Gv);
  parallel_for(c.B * c.H / family, 1 + head_grain(c) / family, [&](int64_t begin, int64_t end) {
    const Tensor memory = Tensor::empty({state_scratch(c.T, c.K, c.V)}, dtype_of<T>());
    for (int64_t i = begin * family; i < end * family; i++) {
      const int64_t b = i / c.H;
      for (size_t d = documents[b].size(); d-- > 0;) {
        const Segment document = documents[b][d];
        const Place p(c, i, document.begin);
        const StateGrads<T> of_head = {at<T>(grads.dq, p.q), at<T>(grads.dk, p.k), at<T>(grads.dv, p.v),
                                       at<T>(grads.dstate, p.state), at<T>(dlog_decay, p.token), at<T>(grads.dbeta, p.token),
                                       p.h % (c.H / c.Gk) > 0, p.h % (c.H / c.Gv) > 0};
        // later documents do not depend on the last state of this one
        if (document.end < c.lengths[b]) std::fill_n(of_head.dstate, c.K * c.V, T(0));
        bwd(of_head, at<T>(d_o, p.o), at<T>(c.states, p.states), head_at(p, first, document), memory.data<T>());
      }
    }
  });
  for (int64_t h = 0; sums && h < c.H; h++) {
    double sum = 0;
    for (int64_t i = h; i < dlog_decay.numel(); i += c.H) sum += dlog_decay.data<T>()[i];
    grads.dlog_decay.data<T>()[h] = static_cast<T>(sum);
  }
}

}  // namespace

StateCall::StateCall(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& log_decay,
                     const Tensor& beta, const Tensor& state, double scale, const std::vector<int64_t>& lengths,
                     const Cuts& cuts)
    : op(op), q(q), k(k), v(v), log_decay(log_decay), beta(beta), state(state), scale(scale), lengths(lengths), cuts(cuts) {
  check_heads(op, q, k, v);
  B = q.dim(0), T = q.dim(1), H = q.dim(2), Gk = k.dim(2), Gv = v.dim(2), K = q.dim(3), V = v.dim(3);
  check_shape(op, "k", k.shape(), {B, T, Gk, K});
  check_shape(op, "v", v.shape(), {B, T, Gv, V});
  check_shape(op, "log_decay", log_decay.shape(), decay_by_token() || beta.defined() ? Shape{B, T, H} : Shape{H});
  if (beta.defined()) check_shape(op, "beta", beta.shape(), {B, T, H});
  if (state.defined()) check_shape(op, "state", state.shape(), {B, H, K, V});
  if (lengths.empty()) this->lengths.assign(B, T);
  CHECK(std::ssize(this->lengths) == B, "%s: %zu lengths for %ld rows", op, lengths.size(), static_cast<long>(B));
  for (int64_t length : lengths) {
    CHECK(length >= 0 && length <= T, "%s: a row of length %ld, expected 0 to %ld", op, static_cast<long>(length),
          static_cast<long>(T));
  }
  check_cuts(op, cuts, this->lengths);
}

LinearAttention state_attention(StateCall c, VarList inputs) {
  const Dtype dtype = c.q.dtype();
  const Device device = c.q.device();
  const bool on_gpu = is_on_gpu(c.q), keep = dtype == Dtype::f32 && !on_gpu && will_record(inputs);
  // the fast code writes every step of a document, the GPU's also those beyond a row's length; the reference adds
  const auto is_short = [&](int64_t length) { return length < c.T; };
  const bool zeros = dtype == Dtype::f64 || (!on_gpu && std::any_of(c.lengths.begin(), c.lengths.end(), is_short));
  c.o = (zeros ? Tensor::zeros : Tensor::empty)({c.B, c.T, c.H, c.V}, dtype, device);
  c.last = Tensor::empty({c.B, c.H, c.K, c.V}, sum_dtype(dtype), device);
  if (keep) c.states = Tensor::empty({c.B, c.H, c.T / linear_chunk(c.K, c.V), c.K, c.V});
  if (c.beta.defined() && (keep || on_gpu)) c.errors = empty_like(c.o);
  if (c.norm_eps > 0) c.rstd = Tensor::empty({c.B, c.T, c.H}, Dtype::f32, device);
  if (on_gpu) c.documents = documents_on_gpu(c);
  by_device(
      c.op, c.q, [&]<class T>(T) { fwd<T>(c); }, [&]<class T>(T) { cuda::state_attention_fwd<T>(c); });

  auto backward = [c, on_gpu, fresh = zeros ? zeros_like : empty_like](std::span<const Tensor> dy, Grads& grads) {
    const Tensor d_o = dy[0].defined() ? dy[0] : zeros_like(c.o);
    StateCallGrads d = {.dq = fresh(c.q), .dk = fresh(c.k), .dv = fresh(c.v)};
    if (grads.needs(3)) d.dlog_decay = fresh(c.log_decay);
    if (c.beta.defined()) d.dbeta = fresh(c.beta);
    if (!on_gpu)
      d.dstate = dy[1].defined() ? dy[1].clone() : zeros_like(c.last);
    else if (grads.needs(4))
      d.dstate = empty_like(c.last);
    by_device(
        c.op, c.q, [&]<class T>(T) { bwd<T>(d, d_o, c); },
        [&]<class T>(T) { cuda::state_attention_bwd<T>(d, d_o, dy[1], c); });
    const Tensor all[] = {d.dq, d.dk, d.dv, d.dlog_decay, d.dstate, d.dbeta};
    for (size_t i = 0; i < (c.beta.defined() ? 6 : 5); i++) grads.give(i, all[i]);
  };
  const std::vector<Var> outputs = record_many(c.op, inputs, {c.o, c.last}, backward);
  return {outputs[0], outputs[1]};
}

Tensor state_attention_step(const StateCall& c, const Tensor& state, int64_t sharing) {
  CHECK(c.T == 1, "%s: %ld steps were given, it takes one (use %s)", c.op, static_cast<long>(c.T),
        c.beta.defined() ? "delta_attention" : "linear_attention");
  check_shape(c.op, "state", state.shape(), {c.B, c.H / sharing, c.K, c.V});
  const Tensor o = Tensor::empty({c.B, 1, c.H, c.V}, c.q.dtype(), c.q.device());
  const auto on_cpu = [&](auto) {
    const StateHead<float> first = first_head<float>(c);
    float *y = o.data<float>(), *S = state.data<float>();
    // the delta rule reads the state twice
    const int64_t work = (c.beta.defined() ? 2 : sharing) * c.K * c.V;
    parallel_for(c.B * c.H / sharing, 1 + 16384 / (1 + work), [&](int64_t begin, int64_t end) {
      std::vector<float> u(first.beta ? c.V : 0);
      for (int64_t i = begin * sharing; i < end * sharing; i++) {
        const Place p(c, i, 0);
        // the first head of those that share a state adds to it, the others read it
        const float scale = p.h % sharing ? 0 : first.scale;
        step(y + p.o, S + i / sharing * c.K * c.V, head_at(p, first, {0, 1}), 0, scale, u.data());
      }
    });
  };
  by_device(c.op, c.q, on_cpu, [&]<class T>(T) { cuda::state_attention_step<T>(o, state, c, sharing); });
  return o;
}

}  // namespace supra
