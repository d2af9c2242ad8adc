#include "nn/module.h"

#include <fnmatch.h>

#include <algorithm>

namespace supra {

Var make_parameter(Shape shape) { return Var(Tensor::wrap(nullptr, std::move(shape), Dtype::f32, nullptr), true); }

bool name_matches(const std::string& name, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return fnmatch(("*" + pattern + "*").c_str(), name.c_str(), 0) == 0; });
}

void fill_uniform(const Tensor& t, double bound, Philox& random) {
  float* x = t.data<float>();
  for (int64_t i = 0; i < t.numel(); i++) x[i] = static_cast<float>(bound * (2 * random.uniform() - 1));
}

Linear::Linear(int64_t out, int64_t in, bool has_bias) : weight(make_parameter({out, in})) {
  if (has_bias) bias = make_parameter({out});
}

Var Linear::operator()(const Var& x) const {
  const Var y = linear(x, weight, bias);
  return lora_a.defined() ? add(y, linear(scale(linear(x, lora_a), lora_scale), lora_b)) : y;
}

Var Linear::relu(const Var& x, Slope slope) const {
  return lora_a.defined() ? supra::relu((*this)(x)) : linear_relu(x, weight, bias, slope);
}

void Linear::visit(const std::string& path, const VisitParameters& f) {
  f(path, *this);
  f(path + ".weight", weight);
  f(path + ".bias", bias);
  f(path + ".lora_a", lora_a);
  f(path + ".lora_b", lora_b);
}

Norm::Norm(int64_t width, const NormConfig& c) : config(c) {
  if (c.weight) weight = make_parameter({width});
  if (c.bias) bias = make_parameter({width});
}

Var Norm::operator()(const Var& x) const {
  return config.kind == NormConfig::Kind::rms ? rmsnorm(x, weight, config.eps) : layernorm(x, weight, bias, config.eps);
}

void Norm::visit(const std::string& path, const VisitParameters& f) {
  f(path + ".weight", weight);
  f(path + ".bias", bias);
}

Mlp::Mlp(const Config& c) : kind_(c.mlp), gelu_(c.gelu) {
  const bool biased = c.mlp_bias || kind_ == MlpKind::geglu;
  const bool packed = kind_ == MlpKind::swiglu || kind_ == MlpKind::packed_geglu;
  in_ = Linear(packed ? 2 * c.mlp_width : c.mlp_width, c.width, biased);
  if (kind_ == MlpKind::geglu) gate_ = Linear(c.mlp_width, c.width, biased);
  out_ = Linear(c.width, c.mlp_width, biased);
}

Var Mlp::operator()(const Var& x) const {
  switch (kind_) {
    case MlpKind::swiglu: return out_(swiglu(in_(x)));
    case MlpKind::gelu: return out_(gelu(in_(x), gelu_));
    case MlpKind::geglu: return out_(mul(gelu(gate_(x), gelu_), in_(x)));
    case MlpKind::packed_geglu: {
      const int64_t F = out_.weight.dim(1);
      const std::vector<Var> parts = split_columns(in_(x), {F, F});
      return out_(mul(gelu(parts[0], gelu_), parts[1]));
    }
  }
  fail("mlp: unknown kind %d", static_cast<int>(kind_));
}

void Mlp::visit(const std::string& layer, const VisitParameters& f) {
  const bool gelu = kind_ == MlpKind::gelu, geglu = kind_ == MlpKind::geglu;
  if (geglu) gate_.visit(layer + ".feed_forward.gate_proj", f);
  in_.visit(layer + (gelu ? "._ff_w1" : geglu ? ".feed_forward.up_proj" : ".feed_forward.w12"), f);
  out_.visit(layer + (gelu ? "._ff_w2" : geglu ? ".feed_forward.down_proj" : ".feed_forward.w3"), f);
}

}  // namespace supra
