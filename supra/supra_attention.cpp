#include "supra/supra_attention.h"

#include <cmath>

#include "kernels/dispatch.h"

namespace supra {

constexpr double kNormEps = 1e-5;  // of the output norm, whatever the model's norm has
constexpr double kDenominatorEps = 1e-6;

// (H) log g_h of the fixed decay, in f64.
//   lightning: g = exp(-s), s = 2^(-8 (h+1) / H), or start * ratio^h with the same ratio. If H is not a power of two: the
//     slopes of the next lower power c, then every second slope of 2c (the published ALiBi rule).
//   retnet: g = 1 - 2^(-5-h).   none: g = 1.
static Tensor fixed_log_decay(int64_t heads, const DecayConfig& config) {
  int64_t power = 1;
  while (2 * power <= heads) power *= 2;
  // slope h of a power of two of heads
  const auto slope = [&](int64_t of, int64_t h) {
    const double ratio = std::exp2(-8.0 / static_cast<double>(of));
    return config.start.value_or(ratio) * std::pow(ratio, static_cast<double>(h));
  };
  const Tensor log_g = Tensor::zeros({heads}, Dtype::f64);
  for (int64_t h = 0; h < heads; h++) {
    double& x = log_g.data<double>()[h];
    if (config.kind == DecayConfig::Kind::retnet) x = std::log1p(-std::exp2(-5.0 - static_cast<double>(h)));
    if (config.kind == DecayConfig::Kind::lightning) x = -(h < power ? slope(power, h) : slope(2 * power, 2 * (h - power)));
  }
  return log_g;
}

SupraAttention::SupraAttention(const Config& c, int64_t layer)
    : Mixer(c, layer, c.key_dim, c.heads),
      key_dim_(c.key_dim), per_head_map_(c.per_head_feature_map), rope_first_(c.rope_before_map),
      decay_source_(c.decay.source), output_norm_(c.output_norm), log_decay_(fixed_log_decay(heads_, c.decay)) {
  const auto map = [&](int64_t heads) { return Linear(heads * key_dim_, per_head_map_ ? head_dim_ : heads * head_dim_, true); };
  if (c.feature_map) q_map_ = map(heads_);
  if (c.feature_map && kv_heads_ != heads_) k_map_ = map(kv_heads_);
  if (!c.rotates) rope_.layout = Rope::Layout::none;
  if (decay_source_ == DecayConfig::Source::gated) decay_gate_ = Linear(heads_, c.width, true);
  if (decay_source_ == DecayConfig::Source::learned) decay_gate_.bias = make_parameter({heads_});
  if (c.output_gate) z_proj_ = Linear(heads_ * value_dim_, c.width, true);
}

void SupraAttention::visit(const std::string& path, const VisitParameters& f) {
  in_proj_.visit(path + ".in_proj", f);
  q_map_.visit(path + "._totrain_embed", f);
  k_map_.visit(path + "._totrain_embed_kv", f);
  q_norm_.visit(path + "._totrain_q_norm", f);
  k_norm_.visit(path + "._totrain_k_norm", f);
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
  // a layer takes two cubes of it: 50 ms
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

std::vector<Mixer::StatePart> SupraAttention::state_parts(int64_t) const {
  return {{{heads_, key_dim_, state_columns()}, sum_dtype(in_proj_.weight.dtype())}};
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
  // if only rope stands between relu and attention, attention applies relu's slope in its backward
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
    // q and k of one token are neighbours in memory: as two rows of one product they read the map once
    const int64_t both = 2 * heads_ * head_dim_;
    const Tensor mapped = relu(q_map_(Var(projected.value().view({-1}).rows(0, both).view({2, both / 2})))).value();
    q = Var(mapped.rows(0, 1).view({1, 1, heads_, key_dim_}));
    k = Var(mapped.rows(1, 2).view({1, 1, heads_, key_dim_}));
  } else {
    q = feature_map(q_map_, qkv[0], heads_);
    k = feature_map(k_map_.weight.defined() ? k_map_ : q_map_, qkv[1], kv_heads_);
  }
  Var v = reshape(qkv[2], {B, T, kv_heads_, value_dim_});
  // an extra column of ones makes the sum of the weights
  const bool divides = output_norm_ == OutputNorm::denominator;
  if (divides) v = concat_columns({v, Var(Tensor::full({B, T, kv_heads_, 1}, 1, x.dtype(), x.value().device()))});

  // Both need k for each query head: the norm covers all H*K columns, and an angle by head differs within a group.
  if (repeat > 1 && (qk_norm_ == QkNorm::whole || rope_.layout == Rope::Layout::by_head)) k = repeat_heads(k, repeat);
  q = normed(q_norm_, q);
  k = normed(k_norm_, k);
  Features before;
  before.first = steps.first, before.of_relu = of_relu;
  if (!rope_first_) before.rope = rope_;
  Var o = attend(x, q, k, v, before, steps, state);
  if (divides) o = divide_by_last(o, kDenominatorEps);
  o = reshape(o, {B, T, heads_ * value_dim_});
  return z_proj_.weight.defined() ? mul(o, sigmoid(z_proj_(x))) : o;
}

Var SupraAttention::attend(const Var& x, const Var& q, const Var& k, const Var& v, const Features& before, const Steps& steps,
                           LayerState* state) const {
  const double scale = 1 / std::sqrt(static_cast<double>(key_dim_)), norm_eps = output_norm_ == OutputNorm::group ? kNormEps : 0;
  const Var log_decay = log_decays(x);
  if (state && is_decode(q, steps)) {
    const auto turned = [&](const Var& x) { return rope(x, before.rope, steps.first, steps.cuts).value(); };
    return group_normed(Var(linear_attention_step(state->parts[0].value(), turned(q), turned(k), v.value(), log_decay.value(), scale)));
  }
  const LinearAttention result = linear_attention(q, k, v, log_decay, scale, state ? state->parts[0] : Var(), steps.lengths, norm_eps, steps.cuts, before);
  if (state) state->parts[0] = result.state;
  return result.o;
}

Var SupraAttention::group_normed(const Var& o) const {
  if (output_norm_ != OutputNorm::group) return o;
  return groupnorm(reshape(o, {o.dim(0), o.dim(1), heads_ * value_dim_}), heads_, kNormEps);
}

}  // namespace supra
