#include "nn/mixer.h"

#include <utility>

namespace supra {

// A state with parts f(part), for each part of another state.
template <class F>
static State with_parts(std::vector<int64_t> positions, const std::vector<LayerState>& layers, F f) {
  State made{std::move(positions), {}};
  for (const LayerState& layer : layers) {
    LayerState& into = made.layers.emplace_back();
    for (const Var& part : layer.parts) into.parts.push_back(f(part));
  }
  return made;
}

State State::clone() const {
  return with_parts(positions, layers, [](const Var& part) { return Var(part.value().clone()); });
}

State State::detach() const {
  return with_parts(positions, layers, [](const Var& part) { return part.detach(); });
}

State State::select(const std::vector<int64_t>& rows) const {
  std::vector<int64_t> chosen;
  for (int64_t b : rows) {
    CHECK(b >= 0 && b < batch(), "state: row %ld of %ld", static_cast<long>(b), static_cast<long>(batch()));
    chosen.push_back(positions[b]);
  }
  return with_parts(std::move(chosen), layers, [&](const Var& part) {
    Shape shape = part.shape();
    shape[0] = static_cast<int64_t>(rows.size());
    const Tensor copy = Tensor::empty(shape, part.value().dtype(), part.value().device());
    for (int64_t i = 0; i < shape[0]; i++) copy.rows(i, i + 1).copy_from(part.value().rows(rows[i], rows[i] + 1));
    return Var(copy);
  });
}

void State::reset_row(int64_t b) {
  CHECK(b >= 0 && b < batch(), "state: row %ld of %ld", static_cast<long>(b), static_cast<long>(batch()));
  positions[b] = 0;
  for (const LayerState& layer : layers) {
    for (const Var& part : layer.parts) part.value().rows(b, b + 1).fill(0);
  }
}

Mixer::Mixer(const Config& c, int64_t layer, int64_t key_dim, int64_t k_heads)
    : heads_(c.heads), kv_heads_(c.kv_heads), head_dim_(c.head_dim), value_dim_(c.value_dim),
      rope_(rope_of(c, layer)), qkv_clip_(c.qkv_clip), qk_norm_(c.qk_norm),
      in_proj_(heads_ * head_dim_ + kv_heads_ * (head_dim_ + value_dim_), c.width, c.qkv_bias),
      out_proj_(c.width, heads_ * value_dim_, c.out_bias) {
  if (qk_norm_ == QkNorm::none) return;
  const bool per_head = qk_norm_ == QkNorm::per_head;
  q_norm_ = Norm(per_head ? key_dim : heads_ * key_dim, c.norm);
  k_norm_ = Norm(per_head ? key_dim : k_heads * key_dim, c.norm);
}

LayerState Mixer::init_state(int64_t batch) const {
  LayerState state;
  for (auto [shape, dtype] : state_parts(0)) {
    shape.insert(shape.begin(), batch);
    state.parts.push_back(Var(Tensor::zeros(shape, dtype, in_proj_.weight.value().device())));
  }
  return state;
}

size_t Mixer::state_bytes(int64_t position) const {
  size_t bytes = 0;
  for (const StatePart& part : state_parts(position)) bytes += static_cast<size_t>(numel(part.shape)) * size_of(part.dtype);
  return bytes;
}

Var Mixer::projected(const Var& x) const {
  const Var qkv = in_proj_(x);
  return qkv_clip_ > 0 ? hard_cap(qkv, qkv_clip_) : qkv;
}

Var Mixer::normed(const Norm& norm, const Var& x) const {
  if (qk_norm_ == QkNorm::none) return x;
  return qk_norm_ == QkNorm::per_head ? norm(x) : reshape(norm(reshape(x, {x.dim(0), x.dim(1), -1})), x.shape());
}

}  // namespace supra
