#include "kernels/chunk.h"
#include "kernels/simd.h"

// Linear attention by chunks of n steps, with lambda, rho and D of chunk.h; S is the state that enters a chunk:
//
//   P = (K Q^T) * D           O = P^T V + diag(lambda) Q S           S' = lambda_n S + K^T diag(rho) V
//
// Backward, with dS', the gradient of S':
//
//   dP = (V dO^T) * D
//   dQ = dP^T K + diag(lambda) dO S^T
//   dK = dP Q + diag(rho) V dS'^T
//   dV = P dO + diag(rho) K dS'
//   dS = lambda_n dS' + Q^T diag(lambda) dO
//   d log g_t = <S, dS> - sum over u < t of (q_u dq_u - k_u dk_u)
//
// If the outputs are normalised (groupnorm.cpp, one group per head), it happens here, while the rows of a chunk are in the
// caches. P is stored transposed, as D is.

namespace supra::SUPRA_LEVEL {
namespace {

// o becomes y = (o - mean(o)) rstd, row by row.
void normalise_rows(Tile o, const Head& head, Chunk chunk) {
  for (int64_t i = 0; i < chunk.steps; i++) {
    const Moments m = moments(o.row(i), head.V, head.norm_eps);
    head.rstd[(chunk.begin + i) * head.token_step] = m.rstd;
    normalise(o.row(i), o.row(i), head.V, m, false);
  }
}

// dy becomes do = rstd (dy - mean(dy) - y mean(dy y)).
void normalise_rows_bwd(Tile dy, const Head& head, Chunk chunk) {
  for (int64_t i = 0; i < chunk.steps; i++) {
    const int64_t t = chunk.begin + i;
    normalise_bwd(dy.row(i), dy.row(i), head.y + t * head.o_step, head.rstd[t * head.token_step], head.V, false);
  }
}

}  // namespace

void linear_attention_fwd(float* o, float* last_state, float* states, const Head& head, float* memory) {
  const int64_t K = head.K, V = head.V, Kp = padded(K), Vp = padded(V), N = padded(chunk_at(head, 0).steps);
  Scratch scratch = {memory};
  const Decay decay = take_decay(scratch, head, N);
  const Tile p = scratch.tile(N, N), q = scratch.tile(N, Kp), k = scratch.tile(N, Kp), v = scratch.tile(N, Vp);
  const Tile q_t = scratch.tile(Kp, N), out = scratch.tile(N, Vp), s = scratch.tile(Kp, Vp);
  zero(p, N, N);
  gather_state(s, states, head, 0);

  for (int64_t c = 0; c < chunk_count(head); c++) {
    const Chunk chunk = chunk_at(head, c);
    const int64_t n = chunk.steps;
    if (states && c > 0) scatter(states + (c - 1) * K * V, V, s, K, V, false);
    chunk_decay(decay, head, chunk);
    gather_rows(q, k, v, head, chunk);

    transpose(q_t, q, n, K);
    multiply(p, plain(k), q_t, {n, n, K, Causal::upper, 0, decay.between});
    multiply(out, transposed(p), v, {n, V, n, Causal::to_row});
    scale_rows(q, decay.lambda, n, K);
    multiply(out, plain(q), s, {n, V, K, Causal::none, 1});
    if (head.rstd) normalise_rows(out, head, chunk);
    scatter(o + chunk.begin * head.o_step, head.o_step, out, n, V, false);

    scale_rows(v, decay.rho, n, V);
    multiply(s, transposed(k), v, {K, V, n, Causal::none, decay.lambda[n - 1]});
  }
  scatter(last_state, V, s, K, V, false);
}

void linear_attention_bwd(const Grads& grads, const float* d_o, const float* states, const Head& head, float* memory) {
  const int64_t K = head.K, V = head.V, Kp = padded(K), Vp = padded(V), N = padded(chunk_at(head, 0).steps);
  Scratch scratch = {memory};
  const Decay decay = take_decay(scratch, head, N);
  const Tile p = scratch.tile(N, N), dp = scratch.tile(N, N);
  const Tile q = scratch.tile(N, Kp), k = scratch.tile(N, Kp), v = scratch.tile(N, Vp), dout = scratch.tile(N, Vp);
  const Tile q_t = scratch.tile(Kp, N), dout_t = scratch.tile(Vp, N);
  const Tile dq = scratch.tile(N, Kp), dk = scratch.tile(N, Kp), dv = scratch.tile(N, Vp);
  const Tile s = scratch.tile(Kp, Vp), s_t = scratch.tile(Vp, Kp), ds = scratch.tile(Kp, Vp), ds_t = scratch.tile(Vp, Kp);
  zero(p, N, N);
  zero(dp, N, N);
  gather(ds, grads.dstate, V, K, V);

  for (int64_t c = chunk_count(head) - 1; c >= 0; c--) {
    const Chunk chunk = chunk_at(head, c);
    const int64_t n = chunk.steps;
    chunk_decay(decay, head, chunk);
    gather_state(s, states, head, c);
    gather_rows(q, k, v, head, chunk);
    gather(dout, d_o + chunk.begin * head.o_step, head.o_step, n, V);
    if (head.rstd) normalise_rows_bwd(dout, head, chunk);
    transpose(q_t, q, n, K);
    transpose(dout_t, dout, n, V);
    transpose(s_t, s, K, V);
    transpose(ds_t, ds, K, V);

    // within the chunk
    multiply(p, plain(k), q_t, {n, n, K, Causal::upper, 0, decay.between});
    multiply(dp, plain(v), dout_t, {n, n, V, Causal::upper, 0, decay.between});
    multiply(dv, plain(p), dout, {n, V, n, Causal::from_row});
    multiply(dk, plain(dp), q, {n, K, n, Causal::from_row});
    multiply(dq, transposed(dp), k, {n, K, n, Causal::to_row});

    // through the states; a factor is scaled after its last use without the scale
    scale_rows(dout, decay.lambda, n, V);
    multiply(dq, plain(dout), s_t, {n, K, V, Causal::none, 1});
    scale_rows(v, decay.rho, n, V);
    multiply(dk, plain(v), ds_t, {n, K, V, Causal::none, 1});
    double slope = 0, change[kLargestChunk];
    for (int64_t i = 0; grads.dlog_decay && i < n; i++)
      change[i] = double{dot_rows(q.row(i), dq.row(i), K)} - double{dot_rows(k.row(i), dk.row(i), K)};
    scale_rows(k, decay.rho, n, K);
    multiply(dv, plain(k), ds, {n, V, K, Causal::none, 1});
    multiply(ds, transposed(q), dout, {K, V, n, Causal::none, decay.lambda[n - 1]});

    scatter(grads.dq + chunk.begin * head.q_step, head.q_step, dq, n, K, false);
    scatter(grads.dk + chunk.begin * head.k_step, head.k_step, dk, n, K, grads.add_k);
    scatter(grads.dv + chunk.begin * head.v_step, head.v_step, dv, n, V, grads.add_v);
    if (!grads.dlog_decay) continue;
    for (int64_t i = 0; i < K; i++) slope += dot_rows(s.row(i), ds.row(i), V);
    scatter_slopes(grads, head, chunk, slope, change);
  }
  scatter(grads.dstate, V, ds, K, V, false);
}

namespace {

// C vectors of columns of one step: S = g S + k (scale v)^T and o = q S, reading S once. part: see columns.h
template <int C, class Part>
inline void step_columns(Part part, float* o, float* state, const float* q, const float* k, const float* v, float g,
                         float scale, int64_t K, int64_t V) {
  Vec out[C] = {}, right[C];
  for (int j = 0; j < C; j++) right[j] = part.load(v + j * kLanes) * scale;
  for (int64_t i = 0; i < K; i++, state += V) {
    for (int j = 0; j < C; j++) {
      const Vec s = fma(broadcast(k[i]), right[j], part.load(state + j * kLanes) * g);
      part.store(state + j * kLanes, s);
      out[j] = fma(broadcast(q[i]), s, out[j]);
    }
  }
  for (int j = 0; j < C; j++) part.store(o + j * kLanes, out[j]);
}

}  // namespace

void linear_attention_step(float* o, float* state, const float* q, const float* k, const float* v, float g, float scale,
                           int64_t K, int64_t V) {
  int64_t j = 0;
  for (; j + 4 * kLanes <= V; j += 4 * kLanes) step_columns<4>(Whole(), o + j, state + j, q, k, v + j, g, scale, K, V);
  for (; j + kLanes <= V; j += kLanes) step_columns<1>(Whole(), o + j, state + j, q, k, v + j, g, scale, K, V);
  if (j < V) step_columns<1>(Rest{V - j}, o + j, state + j, q, k, v + j, g, scale, K, V);
}

}  // namespace supra::SUPRA_LEVEL
