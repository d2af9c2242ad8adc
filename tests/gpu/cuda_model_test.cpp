#include "nn/optim.h"
#include "supra/formats/weights/weights.h"
#include "tests/gpu/cuda_support.h"
#include "tests/tiny_model.h"

// Whole models on the GPU against the CPU: every mixer there is, in f32 and with activations in bf16.

namespace supra {
namespace {

// How far the numbers of a model may be from the CPU's f32, over their norm.
constexpr double bound_of(Dtype activations) { return activations == Dtype::f32 ? 1e-4 : 0.06; }
// These models amplify rounding: a group norm divides by outputs near zero, a first token has nothing else. So
// gradients in bf16 are measured by what weights rounded to bf16 do to them on the CPU, all of them together.
constexpr double kOfRoundedWeights = 5;

std::shared_ptr<Decoder> decoder_on(const Config& config, Device device, Dtype activations = Dtype::f32) {
  const auto decoder = stirred_decoder(config);
  decoder->to(device, activations);
  return decoder;
}

void expect_near(const Tensor& given, const Tensor& truth, double bound, const std::string& what) {
  EXPECT_EQ(given.shape(), truth.shape()) << what;
  EXPECT_LE(difference(given, truth).normalised, bound) << what;
}

Tensor some_tokens(int64_t B, int64_t T, uint64_t seed) {
  Philox random(seed);
  return Tensor::of(random_ids(random, B * T), {B, T});
}

struct Trial {
  NamedTensors gradients, others;
};

// A step of AdamW: every gradient and their norm; the loss before and after, and every weight. Rows are ragged, one holds
// two documents.
Trial train(Decoder& decoder) {
  Trial trial;
  const auto keep = [](NamedTensors& into, const std::string& name, const Tensor& t) {
    into.push_back({name, t.to(Device::cpu).clone()});
  };
  const Tensor tokens = some_tokens(2, 9, 1), targets = some_tokens(2, 9, 2);
  for (int64_t t = 6; t < 9; t++) targets.data<int32_t>()[t] = kIgnore;
  const auto loss = [&] { return decoder.loss(decoder.hidden(tokens, nullptr, {6, 9}, {{}, {4}}), targets, 1e-4); };
  std::vector<Trained> parameters;
  decoder.visit([&](const std::string& name, Var& parameter) { parameters.push_back({name, parameter}); });
  Optimizer optimizer(parameters, {.weight_decay = 0.1});
  const Var before = loss();
  keep(trial.others, "loss", before.value());
  backward(before);
  for (const Trained& p : parameters) keep(trial.gradients, "gradient of " + p.name, p.parameter.grad());
  const double norm = optimizer.gradient_norm();
  keep(trial.gradients, "norm", Tensor::full({1}, norm));
  optimizer.step(1e-2, 1, norm);
  for (const Trained& p : parameters) keep(trial.others, p.name, p.parameter.value());
  keep(trial.others, "loss after the step", loss().value());
  return trial;
}

void expect_near(const NamedTensors& given, const NamedTensors& truth, double bound) {
  ASSERT_EQ(given.size(), truth.size());
  for (size_t i = 0; i < truth.size(); i++) {
    EXPECT_EQ(given[i].second.dtype(), Dtype::f32) << truth[i].first;
    expect_near(given[i].second, truth[i].second, bound, truth[i].first);
  }
}

// |given - truth| over |truth| of all of them as one vector
double distance(const NamedTensors& given, const NamedTensors& truth) {
  double error = 0, all = 0;
  for (size_t i = 0; i < truth.size(); i++) {
    const double square = squared_norm({truth[i].second});
    error += square * std::pow(difference(given[i].second, truth[i].second).normalised, 2);
    all += square;
  }
  return std::sqrt(error / all);
}

// Logits of a prompt of ragged rows, then of two steps; of a row alone, and of one that begins anew.
Results generate(const Decoder& decoder) {
  const NoGrad off;
  State state = decoder.init_state(2);
  const auto logits = [&](State& s, const Tensor& tokens, const std::vector<int64_t>& lengths = {}) {
    return decoder.logits(decoder.hidden(tokens, &s, lengths)).value().to(Device::cpu).to(Dtype::f32);
  };
  Results results = {steps(logits(state, some_tokens(2, 5, 3), {5, 4}), 0, 4)};
  results.push_back(logits(state, some_tokens(2, 1, 4)));
  State row = state.clone().select({1});
  results.push_back(logits(row, some_tokens(1, 1, 5)));
  state.reset_row(0);
  results.push_back(logits(state, some_tokens(2, 1, 6)));
  return results;
}

}  // namespace

TEST_F(Cuda, models_train) {
  for (const MixerVariant& variant : mixer_variants()) {
    const Config config = tiny_config(variant);
    if (is_unbounded(config)) continue;
    SCOPED_TRACE(variant.name);
    const Trial truth = train(*decoder_on(config, Device::cpu));
    const Trial exact = train(*decoder_on(config, Device::cuda));
    expect_near(exact.gradients, truth.gradients, bound_of(Dtype::f32));
    expect_near(exact.others, truth.others, bound_of(Dtype::f32));

    const auto rounded = stirred_decoder(config);
    rounded->visit([](const std::string&, Var& weight) { weight.value().copy_from(weight.value().to(Dtype::bf16)); });
    const Trial coarse = train(*decoder_on(config, Device::cuda, Dtype::bf16));
    EXPECT_LE(distance(coarse.gradients, truth.gradients),
              kOfRoundedWeights * distance(train(*rounded).gradients, truth.gradients));
    expect_near(coarse.others, truth.others, bound_of(Dtype::bf16));
  }
}

TEST_F(Cuda, models_generate) {
  for (const MixerVariant& variant : mixer_variants()) {
    const Config config = tiny_config(variant);
    if (is_unbounded(config)) continue;
    const Results truth = generate(*decoder_on(config, Device::cpu));
    for (Dtype activations : {Dtype::f32, Dtype::bf16}) {
      SCOPED_TRACE(format("%s, %s", variant.name, name(activations)));
      const Results got = generate(*decoder_on(config, Device::cuda, activations));
      for (size_t i = 0; i < truth.size(); i++)
        expect_near(got[i], truth[i], bound_of(activations), "logits " + std::to_string(i));
    }
  }
}

TEST_F(Cuda, a_model_comes_back_as_it_went) {
  const auto here = stirred_decoder(tiny_config(MixerKind::supra)), there = decoder_on(here->config(), Device::cuda);
  EXPECT_EQ(there->device(), Device::cuda);
  there->to(Device::cpu);
  std::vector<Tensor> weights;
  here->visit([&](const std::string&, Var& parameter) { weights.push_back(parameter.value()); });
  size_t i = 0;
  there->visit([&](const std::string& name, Var& parameter) {
    EXPECT_TRUE(same_bits(parameter.value(), weights[i++])) << name;
    EXPECT_TRUE(parameter.requires_grad()) << name;
  });
  EXPECT_TRUE(same_bits(generate(*there)[0], generate(*here)[0]));
}

}  // namespace supra
