#pragma once
#include "kernels/attention.h"
#include "kernels/tile.h"

// Chunks of n steps of a head, for attentions with a state; i, j count the steps of a chunk and c is the scale:
//   lambda_i = g_1 ... g_i    rho_j = c g_{j+1} ... g_n    D_ji = c g_{j+1} ... g_i for j <= i, else 0
// D is stored transposed, with one row per key: the products that use it then run along the queries for any K and V. Every
// factor of the decay is a product of g, so none is above 1.

namespace supra::SUPRA_LEVEL {
namespace {

using Head = StateHead<float>;
using Grads = StateGrads<float>;

// The decays of a chunk.
struct Decay {
  Tile between;  // D
  float* lambda;
  float* rho;
};

struct Chunk {
  int64_t begin, steps;
};

inline Chunk chunk_at(const Head& head, int64_t index) {
  const int64_t begin = index * head.chunk;
  return {begin, at_most(head.steps - begin, head.chunk)};
}

inline int64_t chunk_count(const Head& head) { return (head.steps + head.chunk - 1) / head.chunk; }

// For a decay that is the same at every step: all chunks use the D of the first one.
inline void fixed_decay(const Decay& decay, const Head& head) {
  const int64_t n = chunk_at(head, 0).steps;
  for (int64_t j = 0; j < n; j++) {
    for (int64_t i = j; i < n; i++) decay.between.row(j)[i] = head.scale * head.powers[i - j];
    decay.lambda[j] = head.powers[j + 1];
  }
}

// D of one chunk. Each row follows from the row below it: D_ji = g_{j+1} D_{j+1,i}. lambda is computed from sums of
// logarithms in double, because its error would grow from chunk to chunk.
inline void token_decay(const Decay& decay, const Head& head, Chunk chunk) {
  const float* log_decay = head.log_decay + chunk.begin * head.log_decay_step;
  const int64_t n = chunk.steps, width = whole_vectors(n);
  float g[kLargestChunk + kLanes] = {};
  double total = 0;
  for (int64_t i = 0; i < n; i++) {
    // e^-200 is already zero, and sums with much lower values would lose the digits of the others
    const float x = log_decay[i * head.log_decay_step];
    g[i] = x < -200 ? -200 : x;
    total += g[i];
    decay.lambda[i] = static_cast<float>(total);
  }
  for (int64_t i = 0; i < width; i += kLanes) {
    store(g + i, exp(load(g + i)));
    store(decay.lambda + i, exp(load(decay.lambda + i)));
  }
  for (int64_t j = n - 1; j >= 0; j--) {
    float* row = decay.between.row(j);
    for (int64_t i = j / kLanes * kLanes; i < width; i += kLanes) {
      store(row + i, j + 1 < n ? load(row + decay.between.ld + i) * g[j + 1] : Vec{});
    }
    row[j] = head.scale;
  }
}

// The state that enters chunk c.
inline void gather_state(Tile s, const float* states, const Head& head, int64_t c) {
  const float* from = c > 0 ? states + (c - 1) * head.K * head.V : head.state;
  if (from)
    gather(s, from, head.V, head.K, head.V);
  else
    zero(s, whole_vectors(head.K), head.V);
}

// The queries, keys and values of a chunk.
inline void gather_rows(Tile q, Tile k, Tile v, const Head& head, Chunk chunk) {
  gather(q, head.q + chunk.begin * head.q_step, head.q_step, chunk.steps, head.K);
  gather(k, head.k + chunk.begin * head.k_step, head.k_step, chunk.steps, head.K);
  gather(v, head.v + chunk.begin * head.v_step, head.v_step, chunk.steps, head.V);
}

inline Decay take_decay(Scratch& scratch, const Head& head, int64_t N) {
  const Decay decay = {scratch.tile(N, N), scratch.floats(N), scratch.floats(N)};
  zero(decay.between, N, N);
  if (head.powers) fixed_decay(decay, head);
  return decay;
}

inline void chunk_decay(const Decay& decay, const Head& head, Chunk chunk) {
  if (!head.powers) token_decay(decay, head, chunk);
  for (int64_t j = 0; j < chunk.steps; j++) decay.rho[j] = decay.between.row(j)[chunk.steps - 1];
}

// d log g: `slope` at the first step of the chunk, less change[i] after each step i.
inline void scatter_slopes(const Grads& grads, const Head& head, Chunk chunk, double slope, const double* change) {
  for (int64_t i = 0; i < chunk.steps; i++) {
    grads.dlog_decay[(chunk.begin + i) * head.token_step] = static_cast<float>(slope);
    slope -= change[i];
  }
}

}  // namespace
}  // namespace supra::SUPRA_LEVEL
