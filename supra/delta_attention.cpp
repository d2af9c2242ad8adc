#include "supra/delta_attention.h"

#include <algorithm>
#include <cmath>

#include "kernels/dispatch.h"

namespace supra {

// Used if nothing is known about the teacher's heads.
constexpr HeadReach kUsualReach = {16, 0.5};
constexpr double kShortest = 3, kLongest = 32;

constexpr int64_t kTaps = 4;

DeltaAttention::DeltaAttention(const Config& c, int64_t layer) : SupraAttention(c, layer), beta_(c.heads, c.width, true) {
  if (c.short_convolution) convolution_ = Linear(kTaps, in_proj_.weight.dim(0));
}

void DeltaAttention::visit(const std::string& path, const VisitParameters& f) {
  SupraAttention::visit(path, f);
  beta_.visit(path + "._totrain_beta", f);
  convolution_.visit(path + "._totrain_conv", f);
}

void DeltaAttention::init_neutral() {
  SupraAttention::init_neutral();
  beta_.weight.value().fill(0);
  if (convolution_.weight.defined()) {
    convolution_.weight.value().fill(0);
    convolution_.weight.value().rows(0, 1).fill(1);
  }
  start_as(std::vector<HeadReach>(heads_, kUsualReach));
}

void DeltaAttention::start_as(const std::vector<HeadReach>& teacher) const {
  for (int64_t h = 0; h < heads_; h++) {
    // weights that halve every n tokens have a mean distance of n / ln 2
    const double half_life = std::clamp(teacher[h].distance * std::log(2), kShortest, kLongest), g = std::exp2(-1 / half_life);
    const double beta = 0.3 + 0.4 * (1 - teacher[h].entropy);
    decay_gate_.bias.value().data<float>()[h] = static_cast<float>(std::log(g / (1 - g)));
    beta_.bias.value().data<float>()[h] = static_cast<float>(std::log(beta / (1 - beta)));
  }
}

bool DeltaAttention::is_fresh() const {
  const Tensor& w = beta_.weight.value();
  return std::none_of(w.data<float>(), w.data<float>() + w.numel(), [](float x) { return x != 0; });
}

std::vector<Mixer::StatePart> DeltaAttention::state_parts(int64_t position) const {
  std::vector<StatePart> parts = SupraAttention::state_parts(position);
  const Var& taps = convolution_.weight;
  if (taps.defined()) parts.push_back({{kTaps - 1, taps.dim(1)}, sum_dtype(taps.dtype())});
  return parts;
}

Var DeltaAttention::project(const Var& x, const Steps& steps, LayerState* state) const {
  const Var projected = SupraAttention::project(x, steps, state);
  if (!convolution_.weight.defined()) return projected;
  const ShortConvolution result = short_convolution(projected, convolution_.weight, state ? state->parts[1] : Var(), steps.lengths, steps.cuts);
  if (state && is_decode(x, steps)) state->parts[1].value().copy_from(result.state.value());
  else if (state) state->parts[1] = result.state;
  return result.y;
}

// x / |x| of each head
static Var unit(const Var& x) {
  constexpr double kEps = 1e-6;
  const Var gain(Tensor::full({x.dim(-1)}, 1 / std::sqrt(static_cast<double>(x.dim(-1))), sum_dtype(x.dtype()), x.value().device()));
  return rmsnorm(x, gain, kEps);
}

Var DeltaAttention::attend(const Var& x, const Var& q, const Var& k, const Var& v, const Features& before, const Steps& steps,
                           LayerState* state) const {
  const Var to = unit(rope(q, before.rope, steps.first, steps.cuts)), key = unit(rope(k, before.rope, steps.first, steps.cuts));
  const Var log_decay = log_decays(x), beta = sigmoid(cast(beta_(x), beta_.bias.dtype()));
  if (state && is_decode(q, steps)) {
    return group_normed(Var(delta_attention_step(state->parts[0].value(), to.value(), key.value(), v.value(), log_decay.value(), beta.value())));
  }
  const LinearAttention result = delta_attention(to, key, v, log_decay, beta, state ? state->parts[0] : Var(), steps.lengths, steps.cuts);
  if (state) state->parts[0] = result.state;
  return group_normed(result.o);
}

}  // namespace supra
