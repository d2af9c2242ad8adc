#include <gtest/gtest.h>

#include "tests/gradcheck.h"
#include "tests/tiny_model.h"

// What families set in a decoder beside its layers: every scale, cap and order of norms, forward and backward in double.

namespace supra {
namespace {

Config smallest(const MixerVariant& variant) {
  Config c = tiny_config(variant);
  c.vocab = 7;
  c.width = 4;
  c.heads = 2;
  c.kv_heads = 1;
  c.head_dim = c.key_dim = c.value_dim = 2;
  c.mlp_width = 3;
  if (!c.far_features.empty()) c.far_features = {2, 2};
  if (!c.windows.empty()) c.windows[0] = 2;
  return c;
}

TEST(FamilySwitches, GradientsAreThoseOfCentralDifferences) {
  for (const MixerVariant& variant : mixer_variants()) {
    if (!std::string(variant.name).ends_with("capped") && !std::string(variant.name).ends_with("clipped")) continue;
    SCOPED_TRACE(variant.name);
    const auto decoder = stirred_decoder(smallest(variant));
    std::vector<Tensor> parameters;
    decoder->visit([&](const std::string&, Var& parameter) { parameters.push_back(parameter.value().to(Dtype::f64)); });
    const Tensor tokens = Tensor::of(std::vector<int32_t>{1, 5, 2, 2, 6, 0, 3, 4, 4, 1}, {2, 5});
    const auto loss = [&](const std::vector<Var>& in) -> std::vector<Var> {
      decoder->visit([&, i = size_t{0}](const std::string&, Var& parameter) mutable { parameter = in[i++]; });
      const Var hidden = decoder->hidden(tokens);
      return {decoder->loss(hidden, tokens.view({-1}), 0.1), decoder->logits(hidden)};
    };
    EXPECT_EQ(gradcheck(loss, parameters), "");
  }
}

// The loss sees the logits that logits() gives, capped and scaled.
TEST(FamilySwitches, LossIsThatOfTheLogits) {
  for (const MixerVariant& variant : mixer_variants()) {
    SCOPED_TRACE(variant.name);
    const auto decoder = stirred_decoder(tiny_config(variant));
    Philox random(1);
    const Tensor tokens = Tensor::of(random_ids(random, 40), {2, 20});
    NoGrad off;
    const Var hidden = decoder->hidden(tokens);
    const double whole = cross_entropy(decoder->logits(hidden), tokens.view({-1})).value().item();
    EXPECT_NEAR(decoder->loss(hidden, tokens.view({-1}), 0).value().item(), whole, 1e-5);
    const double cap = decoder->config().logit_cap;
    if (cap == 0) continue;
    const Tensor logits = decoder->logits(scale(hidden, 100)).value();
    for (int64_t i = 0; i < logits.numel(); i++) EXPECT_LE(std::abs(logits.data<float>()[i]), cap);
  }
}

}  // namespace
}  // namespace supra
