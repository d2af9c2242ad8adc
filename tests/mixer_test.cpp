#include <gtest/gtest.h>

#include "tests/reference_mixer.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

// The SUPRA and the window layer in all their variants against their equations.

namespace supra {
namespace {

// The mixer of a one-layer decoder, and its weights for the reference.
struct Layer {
  Config config;
  std::shared_ptr<Decoder> decoder;

  Layer(const MixerVariant& variant, Dtype dtype) : config(tiny_config(variant)) {
    config.layers = 1;
    config.mixers.resize(1);
    if (!config.windows.empty()) config.windows.resize(1);
    if (!config.far_features.empty()) config.far_features.resize(1);
    if (!config.turns.empty()) config.turns.resize(1);
    decoder = stirred_decoder(config);
    // gates that close now and then, decays far from 1, far keys that weigh as much as near ones
    decoder->visit([&](const std::string& name, Var& parameter) {
      if (name.find("_totrain_decay") != std::string::npos || name.find("_totrain_z") != std::string::npos ||
          name.find("_totrain_far") != std::string::npos) {
        parameter.value().copy_from(random_normal(parameter.shape(), 8));
      }
      parameter = Var(parameter.value().to(dtype), true);
    });
  }

  // Those of the layer, by what follows "attention.".
  std::map<std::string, Var> parameters() const {
    std::map<std::string, Var> all;
    const std::string path = "layers.0.attention.";
    decoder->visit([&](const std::string& name, Var& parameter) {
      if (name.starts_with(path)) all[name.substr(path.size())] = parameter;
    });
    return all;
  }

  // x (B,T,C) -> (B,T,C)
  Var forward(const Var& x, LayerState* state = nullptr, int64_t first = 0) const {
    return decoder->mixer(0).forward(x, {std::vector<int64_t>(x.dim(0), first), {}, {}}, state);
  }
};

Values values_of(const Tensor& t) {
  const Tensor wide = t.to(Dtype::f64);
  return Values(wide.data<double>(), wide.data<double>() + wide.numel());
}

ReferenceWeights reference_weights(const Layer& layer) {
  ReferenceWeights weights;
  for (const auto& [name, parameter] : layer.parameters()) weights[name] = values_of(parameter.value());
  return weights;
}

// The same for a batch, flat: x and y are (B,T,C).
Values reference(const Config& c, const ReferenceWeights& weights, const Values& x, int64_t T) {
  Values y;
  for (size_t begin = 0; begin < x.size(); begin += T * c.width) {
    Matrix rows;
    for (int64_t t = 0; t < T; t++)
      rows.emplace_back(x.begin() + begin + t * c.width, x.begin() + begin + (t + 1) * c.width);
    for (const Values& row : reference_mixer(c, weights, rows)) y.insert(y.end(), row.begin(), row.end());
  }
  return y;
}

class MixerTest : public testing::TestWithParam<MixerVariant> {};

// Over the edges of a chunk, in both precisions; and step by step, as decode does.
TEST_P(MixerTest, SaysWhatTheEquationsSay) {
  for (const int64_t T : {1, 3, 64, 150}) {
    const Tensor x = random_normal({2, T, 24}, 20 + T);
    for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
      const Layer layer(GetParam(), dtype);
      const Values expected = reference(layer.config, reference_weights(layer), values_of(x), T);
      const Tensor truth = Tensor::of(expected, {2, T, 24}), y = layer.forward(Var(x.to(dtype))).value();
      EXPECT_EQ(y.dtype(), dtype);
      if (dtype == Dtype::f64) {
        EXPECT_LT(difference(y, truth).largest, 1e-10) << T << " tokens";
        continue;
      }
      // a norm magnifies what is small
      const double tolerance = is_unbounded(layer.config) ? 100 : 4;
      expect_close(y, truth, format("f32, %ld tokens", static_cast<long>(T)), tolerance);
      const NoGrad no_grad;
      LayerState state = layer.decoder->mixer(0).init_state(2);
      const Tensor stepped = Tensor::empty({T, 2, 24}), expected_steps = Tensor::empty({T, 2, 24});
      for (int64_t t = 0; t < T; t++) {
        stepped.rows(t, t + 1).copy_from(layer.forward(Var(steps(x, t, t + 1)), &state, t).value());
        expected_steps.rows(t, t + 1).copy_from(steps(truth, t, t + 1).to(Dtype::f32));
      }
      expect_close(stepped, expected_steps, format("f32, %ld steps", static_cast<long>(T)), tolerance);
    }
  }
}

// Of a weighted sum of the outputs, by central differences of the reference, at twelve elements of the input
// and of every parameter.
TEST_P(MixerTest, GradientsAreThoseOfTheEquations) {
  const int64_t T = 17;
  for (const Dtype dtype : {Dtype::f64, Dtype::f32}) {
    const Layer layer(GetParam(), dtype);
    const Var x(random_normal({2, T, 24}, 5, dtype), true);
    const Tensor pull = random_normal({2, T, 24}, 6, dtype);
    backward(layer.forward(x), pull);

    ReferenceWeights weights = reference_weights(layer);
    Values inputs = values_of(x.value());
    const Values pulls = values_of(pull);
    const auto sum = [&] {
      const Values y = reference(layer.config, weights, inputs, T);
      double total = 0;
      for (size_t i = 0; i < y.size(); i++) total += pulls[i] * y[i];
      return total;
    };
    const auto check = [&](const std::string& name, Values& values, const Tensor& grad) {
      ASSERT_TRUE(grad.defined()) << name;
      const Values given = values_of(grad);
      double largest = 0;
      for (double value : given) largest = std::max(largest, std::fabs(value));
      EXPECT_GT(largest, 0) << name;
      Philox random(7);
      for (int i = 0; i < 12; i++) {
        const size_t at = random.below(values.size());
        const double before = values[at], step = 1e-6;
        values[at] = before + step;
        const double above = sum();
        values[at] = before - step;
        const double numeric = (above - sum()) / (2 * step);
        values[at] = before;
        const double tolerance = dtype == Dtype::f64 ? 1e-6 : 2e-4;
        EXPECT_NEAR(given[at], numeric, tolerance * largest)
            << name << " " << at << " in " << supra::name(dtype);
      }
    };
    check("x", inputs, x.grad());
    for (const auto& [name, parameter] : layer.parameters()) check(name, weights.at(name), parameter.grad());
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, MixerTest,
                         testing::ValuesIn(mixer_variants().begin() + 2, mixer_variants().end()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace supra
