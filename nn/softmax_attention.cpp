#include "nn/softmax_attention.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/cuts.h"

namespace supra {

SoftmaxAttention::SoftmaxAttention(const Config& c, int64_t layer)
    : Mixer(c, layer, c.head_dim, c.kv_heads),
      window_(c.windows.empty() ? 0 : c.windows[layer]),
      scores_(c.score_scale > 0 ? c.score_scale : 1 / std::sqrt(static_cast<double>(head_dim_)), c.score_cap) {}

void SoftmaxAttention::visit(const std::string& path, const VisitParameters& f) {
  in_proj_.visit(path + ".in_proj", f);
  out_proj_.visit(path + ".out_proj", f);
  q_norm_.visit(path + ".q_norm", f);
  k_norm_.visit(path + ".k_norm", f);
}

std::vector<Mixer::StatePart> SoftmaxAttention::state_parts(int64_t position) const {
  return {{{position, kv_heads_, head_dim_}, cache_dtype_}, {{position, kv_heads_, value_dim_}, cache_dtype_}};
}

// Steps [begin, end) of row b of a cache (B,S,...), which share its memory.
static Tensor steps_of(const Tensor& cache, int64_t b, int64_t begin, int64_t end) {
  return cache.rows(b, b + 1).view({cache.dim(1), cache.dim(2), cache.dim(3)}).rows(begin, end);
}

// Copies rows of `fresh` (B,T,...) behind the first[b] rows of `cache` (B,S,...). A larger one replaces a cache that is full.
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

// If a row was cut, its last document moves to the front of the cache: positions count from its first token.
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
  const std::vector<Var> qkv = split_columns(projected(x), {heads_ * head_dim_, kv_heads_ * head_dim_, kv_heads_ * value_dim_});
  return {normed(q_norm_, reshape(qkv[0], {B, T, heads_, head_dim_})),
          normed(k_norm_, reshape(qkv[1], {B, T, kv_heads_, head_dim_})), reshape(qkv[2], {B, T, kv_heads_, value_dim_})};
}

SoftmaxAttention::Heads SoftmaxAttention::rotated(const Var& x, const Steps& steps) const {
  const Heads heads = project(x);
  return {rope(heads.q, rope_, steps.first, steps.cuts), rope(heads.k, rope_, steps.first, steps.cuts), heads.v};
}

Var SoftmaxAttention::features(const Var& x, const Steps& steps, LayerState* state) const {
  const int64_t B = x.dim(0), T = x.dim(1);
  auto [q, k, v] = rotated(x, steps);
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
  return reshape(o, {B, T, heads_ * value_dim_});
}

int64_t SoftmaxAttention::add_reach(std::vector<HeadReach>& sums, const Var& x, const Steps& steps) const {
  const int64_t B = x.dim(0), T = x.dim(1), K = head_dim_;
  const auto [q, k, v] = rotated(x, steps);
  std::vector<int64_t> position;
  positions(position, "softmax attention", steps.first, T, steps.cuts);
  const Tensor stands = Tensor::empty({B, T, kv_heads_, 1});
  for (int64_t i = 0; i < stands.numel(); i++) stands.data<float>()[i] = static_cast<float>(position[i / kv_heads_]);
  // values are the keys and their positions, so the outputs are the means of both
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
      // with a cap this is the score of the mean key, which is near the mean score
      double score = scores_.inner() * std::inner_product(query, query + K, mean, 0.0);
      if (scores_.cap > 0) score = scores_.cap * std::tanh(score);
      sums[h].distance += static_cast<double>(position[i]) - mean[K];
      sums[h].entropy += (here[2].data<float>()[i * heads_ + h] - score) / std::log(static_cast<double>(seen));
    }
  }
  return queries;
}

}  // namespace supra
