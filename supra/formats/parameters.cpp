#include "supra/formats/parameters.h"

#include <map>

#include "nn/softmax_attention.h"
#include "supra/delta_attention.h"
#include "supra/supra_attention.h"
#include "supra/window_attention.h"

namespace supra {

std::shared_ptr<Decoder> describe_decoder(const Config& config) {
  check_config(config, "model");
  return std::make_shared<Decoder>(config, [](const Config& c, int64_t layer) -> std::unique_ptr<Mixer> {
    switch (c.mixers[layer]) {
      case MixerKind::softmax: return std::make_unique<SoftmaxAttention>(c, layer);
      case MixerKind::supra: return std::make_unique<SupraAttention>(c, layer);
      case MixerKind::delta: return std::make_unique<DeltaAttention>(c, layer);
      case MixerKind::window: return std::make_unique<WindowAttention>(c, layer);
    }
    fail("model: unknown mixer %d", static_cast<int>(c.mixers[layer]));
  });
}

std::shared_ptr<Decoder> with_mixers(Decoder& model, const Config& config) {
  std::map<std::string, Var> shared;
  model.visit([&](const std::string& name, Var& parameter) { shared[name] = parameter; });
  const std::shared_ptr<Decoder> other = describe_decoder(config);
  other->visit([&](const std::string& name, Var& parameter) {
    const auto found = shared.find(name);
    const bool same = found != shared.end() && found->second.shape() == parameter.shape();
    parameter = same ? found->second : Var(Tensor::zeros(parameter.shape(), Dtype::f32, model.device()));
  });
  if (model.device() != Device::cpu) other->to(model.device(), model.activations());
  return other;
}

std::vector<Parameter> parameters_of(const Config& c) {
  std::vector<Parameter> all;
  describe_decoder(c)->visit([&](const std::string& name, Var& parameter) {
    std::vector<int64_t> parts;
    if (name.find(".in_proj.") != std::string::npos) {
      parts = {c.heads * c.head_dim, c.kv_heads * c.head_dim, c.kv_heads * c.value_dim};
    } else if (name.find(".w12.") != std::string::npos) {
      parts = {c.mlp_width, c.mlp_width};
    }
    all.push_back({name, parameter.shape(), std::move(parts)});
  });
  return all;
}

}  // namespace supra
