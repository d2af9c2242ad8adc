#include "nn/softmax_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cuts.h"

namespace supra {

SoftmaxAttention::SoftmaxAttention(const Config& c, int64_t layer)
    : heads_(c.heads),
      kv_heads_(c.kv_heads),
      key_dim_(c.head_dim),
      value_dim_(c.value_dim),
      window_(c.windows.empty() ? 0 : c.windows[layer]),
      scores_(c.score_scale > 0 ? c.score_scale : 1 / std::sqrt(static_cast<double>(key_dim_)), c.score_cap),
      qkv_clip_(c.qkv_clip),
      rope_(rope_of(c, layer)),
      qk_norm_(c.qk_norm) {
  in_proj_ = Linear(heads_ * key_dim_ + kv_heads_ * (key_dim_ + value_dim_), c.width, c.qkv_bias);
  out_proj_ = Linear(c.width, heads_ * value_dim_, c.out_bias);
  if (qk_norm_ == QkNorm::none) return;
  const bool apart = qk_norm_ == QkNorm::per_head;
  q_norm_ = Norm(key_dim_ * (apart ? 1 : heads_), c.norm);
  k_norm_ = Norm(key_dim_ * (apart ? 1 : kv_heads_), c.norm);
}

void SoftmaxAttention::visit(const std::string& path, const VisitParameters& f) {
  in_proj_.visit(path + ".in_proj", f);
  out_proj_.visit(path + ".out_proj", f);
  if (qk_norm_ == QkNorm::none) return;
  q_norm_.visit(path + ".q_norm", f);
  k_norm_.visit(path + ".k_norm", f);
}

LayerState SoftmaxAttention::init_state(int64_t batch) const {
  const auto none = [&](int64_t dim) {
    return Var(Tensor::zeros({batch, 0, kv_heads_, dim}, cache_dtype_, in_proj_.weight.value().device()));
  };
  return {{none(key_dim_), none(value_dim_)}};
}

size_t SoftmaxAttention::state_bytes(int64_t position) const {
  return static_cast<size_t>(position * kv_heads_ * (key_dim_ + value_dim_)) * size_of(cache_dtype_);
}

// Steps [begin, end) of row b of a cache (B,S,...), which share its memory.
static Tensor steps_of(const Tensor& cache, int64_t b, int64_t begin, int64_t end) {
  return cache.rows(b, b + 1).view({cache.dim(1), cache.dim(2), cache.dim(3)}).rows(begin, end);
}

// Copies rows of `fresh` (B,T,...) behind the first[b] rows that `cache` (B,S,...) holds, in a larger cache if need be:
// of the dtype and on the device of `fresh`.
static void append(Var& cache, const Tensor& fresh, const std::vector<int64_t>& first) {
  const int64_t B = fresh.dim(0), T = fresh.dim(1);
  const int64_t needed = *std::max_element(first.begin(), first.end()) + T, capacity = cache.dim(1);
  if (needed > capacity) {
    const Tensor larger = Tensor::zeros({B, std::max<int64_t>({needed, 2 * capacity, 64}), fresh.dim(2), fresh.dim(3)},
                                        fresh.dtype(), fresh.device());
    for (int64_t b = 0; b < B; b++) steps_of(larger, b, 0, capacity).copy_from(cache.value().rows(b, b + 1));
    cache = Var(larger);
  }
  for (int64_t b = 0; b < B; b++) steps_of(cache.value(), b, first[b], first[b] + T).copy_from(fresh.rows(b, b + 1));
}

// Where a row was cut, its last document moves to the front of the cache: positions count from its first token.
static void keep_last_document(const LayerState& cache, const Steps& steps, int64_t T) {
  for (size_t b = 0; b < steps.cuts.size(); b++) {
    if (steps.cuts[b].empty()) continue;
    const int64_t cut = steps.cuts[b].back(), begin = steps.first[b] + cut, n = T - cut;
    for (const Var& part : cache.parts) {
      const auto row = static_cast<int64_t>(b);
      // the two may overlap
      steps_of(part.value(), row, 0, n).copy_from(steps_of(part.value(), row, begin, begin + n).clone());
    }
  }
}

SoftmaxAttention::Heads SoftmaxAttention::project(const Var& x) const {
  const int64_t B = x.dim(0), T = x.dim(1);
  const Var made = in_proj_(x), clipped = qkv_clip_ > 0 ? hard_cap(made, qkv_clip_) : made;
  std::vector<Var> qkv = split_columns(clipped, {heads_ * key_dim_, kv_heads_ * key_dim_, kv_heads_ * value_dim_});
  const auto normed = [&](Var x, const Norm& norm, int64_t heads) {
    if (qk_norm_ == QkNorm::whole) x = norm(x);
    x = reshape(x, {B, T, heads, key_dim_});
    return qk_norm_ == QkNorm::per_head ? norm(x) : x;
  };
  return {normed(qkv[0], q_norm_, heads_), normed(qkv[1], k_norm_, kv_heads_), reshape(qkv[2], {B, T, kv_heads_, value_dim_})};
}

Var SoftmaxAttention::forward(const Var& x, const Steps& steps, LayerState* state) const {
  const int64_t B = x.dim(0), T = x.dim(1);
  Heads heads = project(x);
  const Var q = rope(heads.q, rope_, steps.first, steps.cuts);
  Var k = rope(heads.k, rope_, steps.first, steps.cuts), v = heads.v;

  std::vector<int64_t> first(B, 0);
  if (state) {
    refuse_gradient("softmax attention with a KV cache", {k, v});
    append(state->parts[0], k.value(), steps.first);
    append(state->parts[1], v.value(), steps.first);
    k = state->parts[0];
    v = state->parts[1];
    first = steps.first;
  }
  const Var o = softmax_attention(q, k, v, scores_, first, window_, steps.cuts);
  if (state) keep_last_document(*state, steps, T);
  return out_proj_(reshape(o, {B, T, heads_ * value_dim_}));
}

int64_t SoftmaxAttention::add_reach(std::vector<HeadReach>& sums, const Var& x, const Steps& steps) const {
  const int64_t B = x.dim(0), T = x.dim(1), K = key_dim_;
  const Heads heads = project(x);
  const Var q = rope(heads.q, rope_, steps.first, steps.cuts), k = rope(heads.k, rope_, steps.first, steps.cuts);
  std::vector<int64_t> position;
  positions(position, "softmax attention", steps.first, T, steps.cuts);
  const Tensor stands = Tensor::empty({B, T, kv_heads_, 1});
  for (int64_t i = 0; i < stands.numel(); i++) stands.data<float>()[i] = static_cast<float>(position[i / kv_heads_]);
  // with the keys and their positions for values: means of both, and of q . k
  const Var values = concat_columns({cast(k, Dtype::f32), Var(stands.to(k.value().device()))});
  const SoftmaxPart means = softmax_attention_with_sinks(q, {}, k, cast(values, k.dtype()), scores_, std::vector<int64_t>(B, 0), window_, 0, steps.cuts);
  const Tensor all[] = {q.value(), means.o.value(), means.lse.value()};
  Tensor here[3];
  for (size_t i = 0; i < 3; i++) here[i] = all[i].to(Device::cpu).to(Dtype::f32);
  int64_t queries = 0;
  for (int64_t i = 0; i < B * T; i++) {
    const int64_t b = i / T, seen = window_ > 0 ? std::min(window_, position[i] + 1) : position[i] + 1;
    if (seen < 2 || (!steps.lengths.empty() && i % T >= steps.lengths[b])) continue;
    queries++;
    for (int64_t h = 0; h < heads_; h++) {
      const float *query = here[0].data<float>() + (i * heads_ + h) * K, *mean = here[1].data<float>() + (i * heads_ + h) * (K + 1);
      // with a cap, of the mean key: near the mean of the scores
      double score = scores_.inner() * std::inner_product(query, query + K, mean, 0.0);
      if (scores_.cap > 0) score = scores_.cap * std::tanh(score);
      sums[h].distance += static_cast<double>(position[i]) - mean[K];
      sums[h].entropy += (here[2].data<float>()[i * heads_ + h] - score) / std::log(static_cast<double>(seen));
    }
  }
  return queries;
}

std::unique_ptr<Mixer> make_softmax_attention(const Config& config, int64_t layer) {
  return std::make_unique<SoftmaxAttention>(config, layer);
}

}  // namespace supra
