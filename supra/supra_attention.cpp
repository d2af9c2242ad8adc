#include "supra/supra_attention.h"

#include <cmath>

#include "kernels/dispatch.h"

namespace supra {

// Of the norm of the outputs, whatever the model's norm says.
constexpr double kNormEps = 1e-5;
constexpr double kDenominatorEps = 1e-6;

std::vector<double> decay_slopes(int64_t heads, const DecayConfig& config) {
  std::vector<double> slopes(heads, 0.0);
  if (config.kind == DecayConfig::Kind::none) return slopes;
  if (config.kind == DecayConfig::Kind::retnet) {
    for (int64_t h = 0; h < heads; h++) slopes[h] = -std::log1p(-std::exp2(-5.0 - static_cast<double>(h)));
    return slopes;
  }
  int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  // slope h of a power of two of heads
  const auto slope = [&](int64_t of, int64_t h) {
    const double ratio = std::exp2(-8.0 / static_cast<double>(of));
    return config.start.value_or(ratio) * std::pow(ratio, static_cast<double>(h));
  };
  for (int64_t h = 0; h < heads; h++) slopes[h] = h < power ? slope(power, h) : slope(2 * power, 2 * (h - power));
  return slopes;
}

SupraAttention::SupraAttention(const Config& c, int64_t layer)
    : heads_(c.heads),
      kv_heads_(c.kv_heads),
      head_dim_(c.head_dim),
      key_dim_(c.key_dim),
      value_dim_(c.value_dim),
      rope_(rope_of(c, layer)),
      qkv_clip_(c.qkv_clip),
      qk_norm_(c.qk_norm),
      per_head_map_(c.per_head_feature_map),
      rope_first_(c.rope_before_map),
      output_gate_(c.output_gate),
      decay_source_(c.decay.source),
      output_norm_(c.output_norm) {
  in_proj_ = Linear(heads_ * head_dim_ + kv_heads_ * (head_dim_ + value_dim_), c.width, c.qkv_bias);
  const auto map = [&](int64_t heads) { return Linear(heads * key_dim_, per_head_map_ ? head_dim_ : heads * head_dim_, true); };
  if (c.feature_map) q_map_ = map(heads_);
  if (c.feature_map && kv_heads_ != heads_) k_map_ = map(kv_heads_);
  if (!c.rotates) rope_.layout = Rope::Layout::none;
  if (qk_norm_ != QkNorm::none) {
    const int64_t width = key_dim_ * (qk_norm_ == QkNorm::per_head ? 1 : heads_);
    q_norm_ = Norm(width, c.norm);
    k_norm_ = Norm(width, c.norm);
  }
  if (decay_source_ == DecayConfig::Source::gated) decay_gate_ = Linear(heads_, c.width, true);
  if (decay_source_ == DecayConfig::Source::learned) decay_gate_.bias = make_parameter({heads_});
  if (output_gate_) z_proj_ = Linear(heads_ * value_dim_, c.width, true);
  out_proj_ = Linear(c.width, heads_ * value_dim_, c.out_bias);

  std::vector<double> log_decay = decay_slopes(heads_, c.decay);
  for (double& slope : log_decay) slope = -slope;
  log_decay_ = Tensor::of(log_decay);
}

void SupraAttention::visit(const std::string& path, const VisitParameters& f) {
  in_proj_.visit(path + ".in_proj", f);
  q_map_.visit(path + "._totrain_embed", f);
  k_map_.visit(path + "._totrain_embed_kv", f);
  if (qk_norm_ != QkNorm::none) {
    q_norm_.visit(path + "._totrain_q_norm", f);
    k_norm_.visit(path + "._totrain_k_norm", f);
  }
  decay_gate_.visit(path + "._totrain_decay", f);
  z_proj_.visit(path + "._totrain_z", f);
  out_proj_.visit(path + ".out_proj", f);
}

void SupraAttention::init_neutral() {
  const auto fill = [](const Var& parameter, double value) {
    if (parameter.defined()) parameter.value().fill(value);
  };
  fill(decay_gate_.weight, 0);
  for (int64_t h = 0; decay_gate_.bias.defined() && h < heads_; h++) {
    const double log_g = log_decay_.data<double>()[h];
    // logit(g)
    decay_gate_.bias.value().data<float>()[h] = static_cast<float>(log_g - std::log(-std::expm1(log_g)));
  }
  fill(z_proj_.weight, 0);
  fill(z_proj_.bias, 3);
}

bool SupraAttention::fold() {
  // two cubes of it a layer: 50 ms
  constexpr int64_t kMostMapWidth = 1024;
  const int64_t H = heads_, G = kv_heads_, C = in_proj_.weight.dim(1);
  const int64_t map_width = per_head_map_ ? head_dim_ : H * head_dim_;
  const int64_t maps = q_map_.weight.defined() ? q_map_.weight.numel() + (per_head_map_ ? G : G * G) * key_dim_ * head_dim_ : 0;
  if (rope_first_ || qkv_clip_ > 0) return false;
  const bool saves = (H + G) * (key_dim_ - head_dim_) * C < maps;
  if (!saves || map_width > kMostMapWidth || in_proj_.weight.dtype() != Dtype::f32) return false;

  const int64_t mapped = (H + G) * key_dim_, plain = (H + G) * head_dim_, values = G * value_dim_;
  const Tensor weight = Tensor::empty({mapped + values, C}), bias = Tensor::zeros({mapped + values});
  const Tensor& old = in_proj_.weight.value();
  const Tensor old_bias = in_proj_.bias.defined() ? in_proj_.bias.value() : Tensor::zeros({plain + values});
  // rows [to, ...) of the new weight are `map` times rows [from, ...) of the old one
  const auto multiply = [&](const Linear& map, int64_t to, int64_t from, int64_t heads) {
    const int64_t groups = per_head_map_ ? heads : 1, rows = map.weight.dim(0) / groups, width = map.weight.dim(1);
    for (int64_t g = 0; g < groups; g++) {
      const int64_t first = from + g * width, last = first + width;
      const Var part(map.weight.value().rows(g * rows, (g + 1) * rows)), shift(map.bias.value().rows(g * rows, (g + 1) * rows));
      weight.rows(to + g * rows, to + (g + 1) * rows).copy_from(matmul(part, Var(old.rows(first, last))).value());
      bias.rows(to + g * rows, to + (g + 1) * rows)
          .copy_from(linear(Var(old_bias.rows(first, last).view({1, width})), part, shift).value());
    }
  };
  multiply(q_map_, 0, 0, H);
  multiply(k_map_.weight.defined() ? k_map_ : q_map_, H * key_dim_, H * head_dim_, G);
  weight.rows(mapped, mapped + values).copy_from(old.rows(plain, plain + values));
  bias.rows(mapped, mapped + values).copy_from(old_bias.rows(plain, plain + values));
  in_proj_.weight = Var(weight);
  in_proj_.bias = Var(bias);
  q_map_ = k_map_ = Linear();
  return folded_ = true;
}

void SupraAttention::to(Device device, Dtype) {
  gpu_log_decay_ = device == Device::cpu ? Tensor() : log_decay_.to(Dtype::f32).to(device);
}

LayerState SupraAttention::init_state(int64_t batch) const {
  const Shape shape = {batch, heads_, key_dim_, state_columns()};
  const Tensor& weight = in_proj_.weight.value();
  return {{Var(Tensor::zeros(shape, sum_dtype(weight.dtype()), weight.device()))}};
}

size_t SupraAttention::state_bytes(int64_t) const {
  return static_cast<size_t>(heads_ * key_dim_ * state_columns()) * sizeof(float);
}

Tensor SupraAttention::log_decay() const {
  if (decay_source_ == DecayConfig::Source::gated) return {};
  return log_decays(Var(log_decay_)).value().to(Device::cpu).to(Dtype::f64);
}

Var SupraAttention::log_decays(const Var& x) const {
  switch (decay_source_) {
    case DecayConfig::Source::fixed: return Var(gpu_log_decay_.defined() ? gpu_log_decay_ : log_decay_.to(x.dtype()));
    case DecayConfig::Source::learned: return log_sigmoid(decay_gate_.bias);
    // decays are f32, whatever activations are
    case DecayConfig::Source::gated: return log_sigmoid(cast(decay_gate_(x), decay_gate_.bias.dtype()));
  }
  fail("supra attention: unknown decay %d", static_cast<int>(decay_source_));
}

Var SupraAttention::features(const Var& x, const Steps& steps, LayerState* state) const {
  const int64_t B = x.dim(0), T = x.dim(1), repeat = heads_ / kv_heads_;
  const int64_t width = folded_ ? key_dim_ : head_dim_;
  const Var projected = project(x, steps, state);
  std::vector<Var> qkv = split_columns(projected, {heads_ * width, kv_heads_ * width, kv_heads_ * value_dim_});
  // where nothing but rope comes before attention, that minds relu's slope
  const bool of_relu = kind() == MixerKind::supra && qk_norm_ == QkNorm::none && q_map_.weight.defined() && !per_head_map_;
  const auto feature_map = [&](const Linear& map, Var u, int64_t heads) {
    if (rope_first_) u = reshape(rope(reshape(u, {B, T, heads, width}), rope_, steps.first, steps.cuts), {B, T, heads * width});
    return reshape(folded_         ? relu(u)
                   : !map.weight.defined() ? u
                   : per_head_map_ ? relu(headwise_linear(u, map.weight, map.bias, heads))
                                   : map.relu(u, of_relu ? Slope::later : Slope::here),
                   {B, T, heads, key_dim_});
  };
  Var q, k;
  if (B * T == 1 && kv_heads_ == heads_ && q_map_.weight.defined() && !per_head_map_ && !rope_first_ && !grad_enabled()) {
    // one token's q and k are neighbours: as two rows they meet a map that is read once
    const int64_t both = 2 * heads_ * head_dim_;
    const Tensor mapped = relu(q_map_(Var(projected.value().view({-1}).rows(0, both).view({2, both / 2})))).value();
    q = Var(mapped.rows(0, 1).view({1, 1, heads_, key_dim_}));
    k = Var(mapped.rows(1, 2).view({1, 1, heads_, key_dim_}));
  } else {
    q = feature_map(q_map_, qkv[0], heads_);
    k = feature_map(k_map_.weight.defined() ? k_map_ : q_map_, qkv[1], kv_heads_);
  }
  Var v = reshape(qkv[2], {B, T, kv_heads_, value_dim_});
  // the sum of the weights is one more value, of ones
  const bool divides = output_norm_ == OutputNorm::denominator;
  if (divides) v = concat_columns({v, Var(Tensor::full({B, T, kv_heads_, 1}, 1, x.dtype(), x.value().device()))});

  // Both need every head's own k: the norm runs over all H*K columns, and an angle by head differs inside a group.
  if (repeat > 1 && (qk_norm_ == QkNorm::whole || rope_.layout == Rope::Layout::by_head)) k = repeat_heads(k, repeat);
  if (qk_norm_ == QkNorm::per_head) {
    q = q_norm_(q);
    k = k_norm_(k);
  } else if (qk_norm_ == QkNorm::whole) {
    const Shape flat = {B, T, heads_ * key_dim_}, split = q.shape();
    q = reshape(q_norm_(reshape(q, flat)), split);
    k = reshape(k_norm_(reshape(k, flat)), split);
  }
  Features before;
  before.first = steps.first, before.of_relu = of_relu;
  if (!rope_first_) before.rope = rope_;
  Var o = attend(x, q, k, v, before, steps, state);
  if (divides) o = divide_by_last(o, kDenominatorEps);
  o = reshape(o, {B, T, heads_ * value_dim_});
  return output_gate_ ? mul(o, sigmoid(z_proj_(x))) : o;
}

Var SupraAttention::attend(const Var& x, const Var& q, const Var& k, const Var& v, const Features& before, const Steps& steps,
                           LayerState* state) const {
  const double scale = 1 / std::sqrt(static_cast<double>(key_dim_)), norm_eps = output_norm_ == OutputNorm::group ? kNormEps : 0;
  const Var log_decay = log_decays(x);
  if (state && is_decode(q, steps)) {
    const auto turned = [&](const Var& x) { return rope(x, before.rope, steps.first, steps.cuts).value(); };
    return normed(Var(linear_attention_step(state->parts[0].value(), turned(q), turned(k), v.value(), log_decay.value(), scale)));
  }
  const LinearAttention result = linear_attention(q, k, v, log_decay, scale, state ? state->parts[0] : Var(), steps.lengths, norm_eps, steps.cuts, before);
  if (state) state->parts[0] = result.state;
  return result.o;
}

Var SupraAttention::normed(const Var& o) const {
  if (output_norm_ != OutputNorm::group) return o;
  return groupnorm(reshape(o, {o.dim(0), o.dim(1), heads_ * value_dim_}), heads_, kNormEps);
}

Var SupraAttention::forward(const Var& x, const Steps& steps, LayerState* state) const {
  return out_proj_(features(x, steps, state));
}

}  // namespace supra
