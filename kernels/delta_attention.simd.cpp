#include "kernels/chunk.h"
#include "kernels/simd.h"

// The gated delta rule by chunks of n steps (arXiv 2406.06484, 2412.06464), with lambda, rho and D of chunk.h; S is the state
// that enters a chunk. A strict product is 0 on the diagonal:
//
//   P = (K Q^T) * D    A = (K K^T) * D strict
//   E = V - diag(lambda) K S - A^T U    U = diag(beta) E         row by row: row i of A^T U needs the rows of U before i
//   O = diag(lambda) Q S + P^T U        S' = lambda_n S + K^T diag(rho) U
//
// Backward, with dS', the gradient of S':
//
//   dU = P dO + diag(rho) K dS' - A Z   Z = diag(beta) dU        row by row, from the last to the first
//   dV = Z                              d beta_i = dU_i E_i
//   dP = (U dO^T) * D                   dA = -(U Z^T) * D strict
//   dQ = diag(lambda) dO S^T + dP^T K
//   dK = diag(rho) U dS'^T - diag(lambda) Z S^T + dP Q + (dA + dA^T) K
//   dS = lambda_n dS' + Q^T diag(lambda) dO - K^T diag(lambda) Z
//
// The triangular system is solved by substitution in the order of the steps, so its errors grow no faster than the recurrence's.
//
// d log g_t is a sum over pairs of a write before t (or S) and a read at t or later (or S'). A step's pair with itself is not
// decayed, so it is in no sum. It must be left out exactly: where every decay is steep, its rounding would be larger than the
// sum.

namespace supra::SUPRA_LEVEL {
namespace {

// P and -A
inline void pair_products(Tile p, Tile a, Tile q, Tile k, Tile x_t, const Decay& decay, int64_t n, int64_t K) {
  transpose(x_t, q, n, K);
  multiply(p, plain(k), x_t, {n, n, K, Causal::upper, 0, decay.between});
  transpose(x_t, k, n, K);
  multiply(a, plain(k), x_t, {n, n, K, Causal::upper, 0, decay.between});
  for (int64_t j = 0; j < n; j++) {
    float* row = a.row(j);
    for (int64_t i = j / kLanes * kLanes; i < whole_vectors(n); i += kLanes) store(row + i, -load(row + i));
    row[j] = 0;
  }
}

// Row by row, in the order of the steps or, with `back`, from the last: x_i += sum of a_ij y_j over the rows j before, then
// y_i = beta_i x_i.
inline void substitute(Tile y, Tile x, Factor a, const float* beta, int64_t n, int64_t V, bool back) {
  // rows [first, first + rows) of x += a y, over `inner` rows of y from `from` on
  const auto add = [&](int64_t first, int64_t rows, int64_t from, int64_t inner) {
    const Factor left = {a.at + first * a.row + from * a.column, a.row, a.column};
    multiply({x.row(first), x.ld}, left, {y.row(from), y.ld}, {rows, V, inner, Causal::none, 1});
  };
  constexpr int64_t kBlock = 8;
  for (int64_t done = 0; done < n; done += kBlock) {
    const int64_t rows = at_most(n - done, kBlock), first = back ? n - done - rows : done;
    if (done > 0) add(first, rows, back ? first + rows : 0, done);
    for (int64_t r = 0; r < rows; r++) {
      const int64_t i = back ? first + rows - 1 - r : first + r;
      if (r > 0) add(i, 1, back ? i + 1 : first, r);
      for (int64_t j = 0; j < V; j += kLanes) store(y.row(i) + j, load(x.row(i) + j) * beta[i]);
    }
  }
}

// Finishes dP and dA, which are U dO^T and U Z^T before. read[i] and written[j]: what pairs of different steps add to the loss,
// by the step that reads and by the step that writes.
inline void pairs(Tile dp, Tile da, Tile p, Tile a, Tile between, int64_t n, float* read, float* written) {
  // products with a triangle compute up to 8 rows at once, and need zeros below the diagonal there
  constexpr int64_t kBlock = kLanes < 8 ? 8 : kLanes;
  const int64_t width = whole_vectors(n);
  for (int64_t i = 0; i < width; i += kLanes) store(read + i, Vec{});
  for (int64_t j = 0; j < n; j++) {
    p.row(j)[j] = 0;
    Vec total = {};
    for (int64_t i = j / kBlock * kBlock; i < width; i += kLanes) {
      const Vec x = load(dp.row(j) + i), y = load(da.row(j) + i), d = load(between.row(j) + i);
      const Vec e = fma(load(p.row(j) + i), x, load(a.row(j) + i) * y);
      store(read + i, load(read + i) + e);
      total += e;
      store(dp.row(j) + i, x * d);
      store(da.row(j) + i, y * -d);
    }
    da.row(j)[j] = 0;
    written[j] = sum(total);
  }
}

inline void gather_beta(float* beta, const Head& head, Chunk chunk) {
  for (int64_t i = 0; i < chunk.steps; i++) beta[i] = head.beta[(chunk.begin + i) * head.token_step];
}

}  // namespace

void delta_attention_fwd(float* o, float* last_state, float* states, const Head& head, float* memory) {
  const int64_t K = head.K, V = head.V, Kp = padded(K), Vp = padded(V), N = padded(chunk_at(head, 0).steps);
  Scratch scratch = {memory};
  const Decay decay = take_decay(scratch, head, N);
  float* beta = scratch.floats(N);
  const Tile p = scratch.tile(N, N), a = scratch.tile(N, N);  // adjacent in memory
  const Tile q = scratch.tile(N, Kp), k = scratch.tile(N, Kp), x_t = scratch.tile(Kp, N);
  const Tile e = scratch.tile(N, Vp), u = scratch.tile(N, Vp), out = scratch.tile(N, Vp), s = scratch.tile(Kp, Vp);
  zero(p, 2 * N, N);
  gather_state(s, states, head, 0);

  for (int64_t c = 0; c < chunk_count(head); c++) {
    const Chunk chunk = chunk_at(head, c);
    const int64_t n = chunk.steps;
    if (states && c > 0) scatter(states + (c - 1) * K * V, V, s, K, V, false);
    chunk_decay(decay, head, chunk);
    gather_beta(beta, head, chunk);
    gather_rows(q, k, e, head, chunk);

    pair_products(p, a, q, k, x_t, decay, n, K);
    multiply(out, plain(k), s, {n, V, K});
    for (int64_t i = 0; i < n; i++) {
      for (int64_t j = 0; j < V; j += kLanes)
        store(e.row(i) + j, fma(load(out.row(i) + j), broadcast(-decay.lambda[i]), load(e.row(i) + j)));
    }
    substitute(u, e, transposed(a), beta, n, V, false);
    if (head.errors) scatter(head.errors + chunk.begin * head.o_step, head.o_step, e, n, V, false);

    multiply(out, transposed(p), u, {n, V, n, Causal::to_row});
    scale_rows(q, decay.lambda, n, K);
    multiply(out, plain(q), s, {n, V, K, Causal::none, 1});
    scatter(o + chunk.begin * head.o_step, head.o_step, out, n, V, false);

    scale_rows(u, decay.rho, n, V);
    multiply(s, transposed(k), u, {K, V, n, Causal::none, decay.lambda[n - 1]});
  }
  scatter(last_state, V, s, K, V, false);
}

void delta_attention_bwd(const Grads& grads, const float* d_o, const float* states, const Head& head, float* memory) {
  const int64_t K = head.K, V = head.V, Kp = padded(K), Vp = padded(V), N = padded(chunk_at(head, 0).steps);
  Scratch scratch = {memory};
  const Decay decay = take_decay(scratch, head, N);
  float *beta = scratch.floats(N), *read = scratch.floats(N), *written = scratch.floats(N);
  // adjacent in memory
  const Tile p = scratch.tile(N, N), a = scratch.tile(N, N), dp = scratch.tile(N, N), da = scratch.tile(N, N);
  const Tile q = scratch.tile(N, Kp), k = scratch.tile(N, Kp), x_t = scratch.tile(Kp, N), dq = scratch.tile(N, Kp),
             dk = scratch.tile(N, Kp);
  const Tile e = scratch.tile(N, Vp), u = scratch.tile(N, Vp), dout = scratch.tile(N, Vp), du = scratch.tile(N, Vp),
             z = scratch.tile(N, Vp), y_t = scratch.tile(Vp, N);
  const Tile s = scratch.tile(Kp, Vp), s_t = scratch.tile(Vp, Kp), ds = scratch.tile(Kp, Vp), ds_t = scratch.tile(Vp, Kp);
  zero(p, 4 * N, N);
  zero(z, N, V);
  gather(ds, grads.dstate, V, K, V);

  for (int64_t c = chunk_count(head) - 1; c >= 0; c--) {
    const Chunk chunk = chunk_at(head, c);
    const int64_t n = chunk.steps;
    chunk_decay(decay, head, chunk);
    gather_beta(beta, head, chunk);
    gather_state(s, states, head, c);
    gather(q, head.q + chunk.begin * head.q_step, head.q_step, n, K);
    gather(k, head.k + chunk.begin * head.k_step, head.k_step, n, K);
    gather(e, head.errors + chunk.begin * head.o_step, head.o_step, n, V);
    gather(u, head.errors + chunk.begin * head.o_step, head.o_step, n, V);
    gather(dout, d_o + chunk.begin * head.o_step, head.o_step, n, V);
    scale_rows(u, beta, n, V);
    transpose(s_t, s, K, V);
    transpose(ds_t, ds, K, V);

    pair_products(p, a, q, k, x_t, decay, n, K);
    multiply(du, plain(k), ds, {n, V, K});
    scale_rows(du, decay.rho, n, V);
    multiply(du, plain(p), dout, {n, V, n, Causal::from_row, 1});
    substitute(z, du, plain(a), beta, n, V, true);
    scatter(grads.dv + chunk.begin * head.v_step, head.v_step, z, n, V, grads.add_v);
    for (int64_t i = 0; i < n; i++)
      grads.dbeta[(chunk.begin + i) * head.token_step] = dot_rows(du.row(i), e.row(i), V);

    transpose(y_t, dout, n, V);
    multiply(dp, plain(u), y_t, {n, n, V, Causal::upper});
    transpose(y_t, z, n, V);
    multiply(da, plain(u), y_t, {n, n, V, Causal::upper});
    pairs(dp, da, p, a, decay.between, n, read, written);

    // first the part that goes through the states, because it is a part of the decay's gradient
    double slope = 0, change[kLargestChunk];
    scale_rows(dout, decay.lambda, n, V);
    scale_rows(z, decay.lambda, n, V, -1);
    scale_rows(u, decay.rho, n, V);
    multiply(dq, plain(dout), s_t, {n, K, V});
    multiply(dk, plain(z), s_t, {n, K, V});
    for (int64_t i = 0; i < n; i++) {
      const double of_q = dot_rows(q.row(i), dq.row(i), K), of_k = dot_rows(k.row(i), dk.row(i), K);
      slope += of_q + of_k;
      // the last of_k is also in the dot product below
      change[i] = of_q + of_k + read[i] - written[i] + of_k;
    }
    multiply(dk, plain(u), ds_t, {n, K, V, Causal::none, 1});
    for (int64_t i = 0; i < n; i++) change[i] -= dot_rows(k.row(i), dk.row(i), K);
    multiply(dq, transposed(dp), k, {n, K, n, Causal::to_row, 1});
    multiply(dk, plain(dp), q, {n, K, n, Causal::from_row, 1});
    multiply(dk, plain(da), k, {n, K, n, Causal::from_row, 1});
    multiply(dk, transposed(da), k, {n, K, n, Causal::to_row, 1});
    scatter(grads.dq + chunk.begin * head.q_step, head.q_step, dq, n, K, false);
    scatter(grads.dk + chunk.begin * head.k_step, head.k_step, dk, n, K, grads.add_k);

    for (int64_t i = 0; i < K; i++) slope += double{decay.lambda[n - 1]} * dot_rows(s.row(i), ds.row(i), V);
    multiply(ds, transposed(q), dout, {K, V, n, Causal::none, decay.lambda[n - 1]});
    multiply(ds, transposed(k), z, {K, V, n, Causal::none, 1});
    if (grads.dlog_decay) scatter_slopes(grads, head, chunk, slope, change);
  }
  scatter(grads.dstate, V, ds, K, V, false);
}

}  // namespace supra::SUPRA_LEVEL
