#include "kernels/simd.h"
#include "kernels/tile.h"

// Softmax attention by blocks of queries i and keys s, with the running maximum and sum of Milakov and
// Gimelshein (arXiv 1805.02867), as in FlashAttention (arXiv 2205.14135): no more than a block of scores
// exists at a time. Scores are stored transposed, a row per key and a lane per query: maxima and sums over the keys
// need no sums over lanes. The sinks come first, apart from the window, because their queries may be others.

namespace supra::SUPRA_LEVEL {
namespace {

// A walk over the keys that any of the queries [begin, end) sees, a block at a time: the sinks, then the window without
// them. No other keys are read.
struct Keys {
  int64_t begin, end, window_begin, last;
  bool sinks;

  Keys(const SoftmaxHead<float>& head, int64_t first_query, int64_t end_query)
      : begin(0), last(head.first + end_query), sinks(head.sinks > 0) {
    const int64_t oldest = head.first + first_query + 1 - head.window;
    window_begin = oldest > head.sinks ? oldest : head.sinks;
    end = at_most(head.sinks, last);
    if (!sinks) next();
  }
  int64_t count() const { return end - begin; }
  bool done() const { return begin >= last; }
  void next() {
    begin = end > window_begin ? end : window_begin;
    end = begin + at_most(last - begin, kSoftmaxBlock);
    sinks = false;
  }
};

// The scores of `keys` and the queries [begin, begin + n); -inf where a key is in the future of a query or has left its
// window.
void score(Tile p, const SoftmaxHead<float>& head, Tile k, Tile q_t, const Keys& keys, int64_t begin, int64_t n) {
  multiply(p, plain(k), q_t, {keys.count(), n, head.K});
  for (int64_t s = 0; s < keys.count(); s++) {
    if (head.cap > 0) {
      activation_fwd(p.row(s), p.row(s), n, Activation::tanh);
      scale(p.row(s), p.row(s), head.cap, n);
    }
    const int64_t seen = keys.begin + s - head.first - begin, forgotten = keys.sinks ? n : seen + head.window;
    for (int64_t i = 0; i < at_most(seen, n); i++) p.row(s)[i] = -__builtin_inff();
    for (int64_t i = forgotten > 0 ? forgotten : 0; i < n; i++) p.row(s)[i] = -__builtin_inff();
  }
}

// The queries of a block times the scale, as rows and transposed.
inline void gather_queries(Tile q, Tile q_t, const float* from, const SoftmaxHead<float>& head, int64_t begin, int64_t n) {
  gather(q, from + begin * head.q_step, head.q_step, n, head.K, head.scale);
  transpose(q_t, q, n, head.K);
}

}  // namespace

void softmax_attention_fwd(float* o, float* lse, const SoftmaxHead<float>& head, int64_t begin, int64_t end,
                           float* memory) {
  const int64_t K = head.K, V = head.V, n = end - begin, N = kSoftmaxBlock;
  Scratch scratch = {memory};
  const Tile q = scratch.tile(N, padded(K)), q_t = scratch.tile(padded(K), N), k = scratch.tile(N, padded(K));
  const Tile sinks_t = head.q_sinks == head.q ? q_t : scratch.tile(padded(K), N);
  const Tile v = scratch.tile(N, padded(V)), out = scratch.tile(N, padded(V)), p = scratch.tile(N, N);
  float *top = scratch.floats(N), *sum = scratch.floats(N), *shrink = scratch.floats(N);
  if (head.q_sinks != head.q) gather_queries(q, sinks_t, head.q_sinks, head, begin, n);
  gather_queries(q, q_t, head.q, head, begin, n);
  zero(out, n, V);
  // a finite number, because a query may see no key of the first blocks
  for (int64_t i = 0; i < N; i++) top[i] = -1e30f, sum[i] = 0;

  for (Keys walk(head, begin, end); !walk.done(); walk.next()) {
    const int64_t keys = walk.count();
    gather(k, head.k + walk.begin * head.k_step, head.k_step, keys, K);
    gather(v, head.v + walk.begin * head.v_step, head.v_step, keys, V);
    score(p, head, k, walk.sinks ? sinks_t : q_t, walk, begin, n);
    for (int64_t i = 0; i < n; i += kLanes) {
      Vec highest = load(top + i);
      for (int64_t s = 0; s < keys; s++) highest = max(highest, load(p.row(s) + i));
      const Vec factor = exp(load(top + i) - highest);
      Vec total = load(sum + i) * factor;
      for (int64_t s = 0; s < keys; s++) {
        const Vec weight = exp(load(p.row(s) + i) - highest);
        store(p.row(s) + i, weight);
        total += weight;
      }
      store(top + i, highest);
      store(sum + i, total);
      store(shrink + i, factor);
    }
    scale_rows(out, shrink, n, V);
    multiply(out, transposed(p), v, {n, V, keys, Causal::none, 1});
  }

  for (int64_t i = 0; i < n; i++) {
    if (lse) lse[(begin + i) * head.lse_step] = top[i] + __builtin_logf(sum[i]);
    sum[i] = 1 / sum[i];
  }
  scale_rows(out, sum, n, V);
  scatter(o + begin * head.o_step, head.o_step, out, n, V, false);
}

void softmax_attention_bwd(const SoftmaxGrads<float>& grads, const float* d_o, const float* o, const float* lse,
                           const SoftmaxHead<float>& head, float* memory) {
  const int64_t K = head.K, V = head.V, N = kSoftmaxBlock;
  Scratch scratch = {memory};
  const Tile q = scratch.tile(N, padded(K)), q_t = scratch.tile(padded(K), N), k = scratch.tile(N, padded(K));
  const Tile dq = scratch.tile(N, padded(K)), dk = scratch.tile(N, padded(K));
  const Tile v = scratch.tile(N, padded(V)), out = scratch.tile(N, padded(V)), dv = scratch.tile(N, padded(V));
  const Tile dout = scratch.tile(N, padded(V)), dout_t = scratch.tile(padded(V), N);
  const Tile p = scratch.tile(N, N), ds = scratch.tile(N, N);
  float *norm = scratch.floats(N), *delta = scratch.floats(N);
  // the queries of the sinks, if they are others
  const bool apart = head.q_sinks != head.q;
  const Tile qs = apart ? scratch.tile(N, padded(K)) : q, qs_t = apart ? scratch.tile(padded(K), N) : q_t;
  const Tile dqs = apart ? scratch.tile(N, padded(K)) : dq;

  for (int64_t begin = 0; begin < head.steps; begin += N) {
    const int64_t n = at_most(head.steps - begin, N);
    gather_queries(q, q_t, head.q, head, begin, n);
    gather(out, o + begin * head.o_step, head.o_step, n, V);
    gather(dout, d_o + begin * head.o_step, head.o_step, n, V);
    transpose(dout_t, dout, n, V);
    for (int64_t i = 0; i < N; i++) {
      norm[i] = i < n ? lse[(begin + i) * head.lse_step] : 0;
      delta[i] = i < n ? dot_rows(dout.row(i), out.row(i), V) : 0;
      if (grads.dlse && i < n) delta[i] -= grads.dlse[(begin + i) * head.lse_step];
    }
    zero(dq, n, K);
    if (apart) {
      gather_queries(qs, qs_t, head.q_sinks, head, begin, n);
      zero(dqs, n, K);
    }

    for (Keys walk(head, begin, begin + n); !walk.done(); walk.next()) {
      const int64_t key = walk.begin, keys = walk.count();
      gather(k, head.k + key * head.k_step, head.k_step, keys, K);
      gather(v, head.v + key * head.v_step, head.v_step, keys, V);
      score(p, head, k, walk.sinks ? qs_t : q_t, walk, begin, n);
      multiply(ds, plain(v), dout_t, {keys, n, V});
      for (int64_t s = 0; s < keys; s++) {
        for (int64_t i = 0; i < n; i += kLanes) {
          const Vec x = load(p.row(s) + i), weight = exp(x - load(norm + i));
          // the slope of the cap; a key that is not seen has x = -inf, and none
          const Vec slope = head.cap > 0 ? max(head.cap - x * x / head.cap, Vec{}) : broadcast(1);
          store(p.row(s) + i, weight);
          store(ds.row(s) + i, weight * (load(ds.row(s) + i) - load(delta + i)) * slope);
        }
      }
      multiply(dv, plain(p), dout, {keys, V, n});
      multiply(dk, plain(ds), walk.sinks ? qs : q, {keys, K, n});
      multiply(walk.sinks ? dqs : dq, transposed(ds), k, {n, K, keys, Causal::none, 1});
      scatter(grads.dv + key * head.v_step, head.v_step, dv, keys, V, true);
      // q contains the scale
      scatter(grads.dk + key * head.k_step, head.k_step, dk, keys, K, true);
    }
    scatter(grads.dq + begin * head.q_step, head.q_step, dq, n, K, false, head.scale);
    if (apart) scatter(grads.dq_sinks + begin * head.q_step, head.q_step, dqs, n, K, false, head.scale);
  }
}

void softmax_row(float* p, float* lse, int64_t n, float scale) {
  Vec highest = broadcast(-__builtin_inff()), total = {};
  for_columns(n, [&](int64_t i, auto part) { highest = max(highest, part.mask(part.load(p + i) * scale, highest)); });
  const float top = max(highest);
  for_columns(n, [&](int64_t i, auto part) {
    const Vec weight = exp(part.load(p + i) * scale - top);
    part.store(p + i, weight);
    if (i + kLanes <= n) total += weight;
  });
  float all = sum(total);
  for (int64_t i = n / kLanes * kLanes; i < n; i++) all += p[i];
  for (int64_t i = 0; i < n; i++) p[i] /= all;
  *lse = top + __builtin_logf(all);
}

}  // namespace supra::SUPRA_LEVEL
