#include "supra/linearize.h"

#include <gtest/gtest.h>

#include <map>

#include "supra/evaluation/verify.h"
#include "supra/formats/weights/safetensors.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

// The variants of a student, as linearize() makes them and verify() judges them.

namespace supra {
namespace {

using Source = DecayConfig::Source;

Tensor some_tokens(int64_t B, int64_t T) {
  Philox random(4);
  const Tensor tokens = Tensor::empty({B, T}, Dtype::i32);
  for (int64_t i = 0; i < tokens.numel(); i++)
    tokens.data<int32_t>()[i] = static_cast<int32_t>(random.below(61));
  return tokens;
}

Tensor logits_of(const Model& model) {
  const NoGrad no_grad;
  return model.decoder->logits(model.decoder->hidden(some_tokens(2, 80))).value();
}

std::string complaint_of(const Model& teacher, const LinearizeOptions& options) {
  try {
    linearize(teacher, options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

void expect_says(const std::string& complaint, const std::string& part) {
  EXPECT_NE(complaint.find(part), std::string::npos) << "\"" << complaint << "\" does not say " << part;
}

TEST(LinearizeVariants, LearnedDecaysStartAsTheFixedOnes) {
  Model teacher;
  teacher.decoder = tiny_decoder(MixerKind::softmax);
  for (const DecayConfig::Kind kind : {DecayConfig::Kind::lightning, DecayConfig::Kind::retnet}) {
    for (const std::optional<double> start : {std::optional<double>(), std::optional<double>(0.05)}) {
      LinearizeOptions options;
      options.decay = {kind, start, Source::fixed};
      // what else differs from the paper's layer makes no difference here
      options.key_dim = 12;
      options.output_gate = options.qk_norm = true;
      const Tensor expected = logits_of(linearize(teacher, options).model);
      for (const Source source : {Source::learned, Source::gated}) {
        options.decay.source = source;
        EXPECT_LT(difference(logits_of(linearize(teacher, options).model), expected).largest, 1e-5);
      }
    }
  }
  LinearizeOptions none;
  none.decay = {DecayConfig::Kind::none, {}, Source::gated};
  expect_says(complaint_of(teacher, none), "--decay lightning or retnet");
}

// Wide keys: the features of one dimension, relu(u) and relu(-u), share the gain that it had.
TEST(LinearizeVariants, WideKeysTakeTheTeachersGains) {
  for (const QkNorm kind : {QkNorm::whole, QkNorm::per_head}) {
    Config config = tiny_config(MixerKind::softmax);
    config.qk_norm = kind;
    Model teacher;
    teacher.decoder = make_decoder(config);
    teacher.decoder->init_weights(1);
    teacher.decoder->visit([](const std::string& name, Var& parameter) {
      for (int64_t i = 0; name.ends_with("q_norm.weight") && i < parameter.numel(); i++)
        parameter.value().data<float>()[i] = static_cast<float>(i);
      for (int64_t i = 0; name.ends_with("k_norm.weight") && i < parameter.numel(); i++)
        parameter.value().data<float>()[i] = static_cast<float>(i);
    });
    LinearizeOptions options;
    options.key_dim = 12;
    const Model student = linearize(teacher, options).model;
    int checked = 0;
    student.decoder->visit([&](const std::string& name, Var& parameter) {
      const bool is_q = name.ends_with("_totrain_q_norm.weight");
      if (!is_q && !name.ends_with("_totrain_k_norm.weight")) return;
      ASSERT_EQ(parameter.numel(), kind == QkNorm::whole ? 4 * 12 : 12);
      for (int64_t i = 0; i < parameter.numel(); i++) {
        // two query heads share a key head
        const int64_t head = i / 12 / (is_q ? 1 : 2);
        EXPECT_EQ(parameter.value().data<float>()[i], static_cast<float>(head * 6 + i % 6))
            << name << " " << i;
      }
      checked++;
    });
    EXPECT_EQ(checked, 4);
  }
}

// What lies beyond a window that the teacher itself has weighs nothing there.
TEST(LinearizeVariants, WindowsOfTheTeacherGetNoFarPart) {
  Config config = tiny_config(MixerKind::softmax);
  config.windows = {0, 6};
  Model teacher;
  teacher.decoder = make_decoder(config);
  teacher.decoder->init_weights(3);
  LinearizeOptions options;
  options.mixer = MixerKind::window;
  options.far_features = {{4}};
  for (const int64_t window : {4, 8}) {
    options.windows = {{window}};
    const Config student = linearize(teacher, options).model.config();
    EXPECT_EQ(student.windows, (std::vector<int64_t>{window, std::min<int64_t>(window, 6)}));
    EXPECT_EQ(student.far_features, (std::vector<int64_t>{4, 0}));
  }
}

TEST(LinearizeVariants, WhatDoesNotGoTogetherIsRefused) {
  Config config = tiny_config(MixerKind::softmax);
  config.rope.divisors = {1, 2, 8};
  Model teacher;
  teacher.decoder = make_decoder(config);
  teacher.decoder->init_weights(1);
  LinearizeOptions options;
  options.key_dim = 12;
  expect_says(complaint_of(teacher, options), "--rope before-map");
  options.rope_before_map = true;
  EXPECT_EQ(complaint_of(teacher, options), "");
  EXPECT_TRUE(all_finite(logits_of(linearize(teacher, options).model)));
  options.qk_norm = true;
  options.keep_softmax = {0};
  expect_says(complaint_of(teacher, options), "--qk-norm or --keep-softmax");
}

// A golden file of the model in double: what verify computes in f32, in chunks and step by step, agrees with
// it.
TEST(LinearizeVariants, VerifyKnowsThem) {
  const TempDir directory;
  const Path golden = directory.path() / "golden.safetensors";
  const Tensor tokens = some_tokens(2, 40);
  for (const MixerVariant& variant : mixer_variants()) {
    if (is_unbounded(tiny_config(variant))) continue;
    SCOPED_TRACE(variant.name);
    Model model;
    model.decoder = stirred_decoder(tiny_config(variant));
    const auto wide = stirred_decoder(tiny_config(variant));
    wide->visit(
        [](const std::string&, Var& parameter) { parameter = Var(parameter.value().to(Dtype::f64), true); });
    const Var hidden = wide->hidden(tokens);
    const Tensor logits = wide->logits(hidden).value().to(Dtype::f32);
    const Var loss = wide->loss(hidden, tokens.view({-1}), 1e-4);
    backward(loss);
    NamedTensors expected = {{"tokens", tokens},
                             {"targets", tokens},
                             {"logits", logits},
                             {"recurrent_logits", logits},
                             {"loss_z1e-4", loss.value().to(Dtype::f32)}};
    wide->visit([&](const std::string& name, Var& parameter) {
      ASSERT_TRUE(parameter.grad().defined()) << name;
      expected.push_back({"grad." + name, parameter.grad().to(Dtype::f32)});
    });
    write_safetensors(golden, expected);
    // a norm of the few weights of a first token magnifies the rounding of f32
    VerifyOptions options;
    options.tolerance = 1e-3;
    const std::vector<VerifyRow> rows = verify(model, golden, options);
    EXPECT_EQ(rows.size(), expected.size() - 2);
    for (const VerifyRow& row : rows)
      EXPECT_TRUE(row.passed()) << row.key << ": error " << row.error << " " << row.note;
  }
}

// linear_open_lm's state g S is that of the g a model has now. One that makes g from the next token has none.
TEST(LinearizeVariants, VerifyTakesDecaysAsTheyAre) {
  const TempDir directory;
  const Path golden = directory.path() / "golden.safetensors";
  const Tensor tokens = some_tokens(1, 1);
  for (const Source source : {Source::fixed, Source::learned, Source::gated}) {
    Config config = tiny_config(MixerKind::supra);
    config.decay.source = source;
    Model model;
    model.decoder = stirred_decoder(config);
    std::vector<double> decay;
    for (int64_t layer = 0; layer < 2; layer++) {
      for (int64_t h = 0; h < 4; h++)
        decay.push_back(std::exp(-std::exp2(-2.0 * static_cast<double>(h + 1))));
    }
    model.decoder->visit([&](const std::string& name, Var& parameter) {
      if (!name.ends_with("_totrain_decay.bias")) return;
      for (int64_t h = 0; h < 4; h++) {
        const float raw = static_cast<float>(h) - 1.5f;
        parameter.value().data<float>()[h] = raw;
        decay[(name[7] - '0') * 4 + h] = 1 / (1 + std::exp(-static_cast<double>(raw)));
      }
    });
    State state = model.decoder->init_state(1);
    {
      const NoGrad no_grad;
      model.decoder->hidden(tokens, &state);
    }
    const Tensor states = Tensor::empty({2, 1, 4, 6, 6});
    for (int64_t i = 0; i < states.numel(); i++) {
      const int64_t layer = i / 144, head = i % 144 / 36;
      const float S = state.layers[layer].parts[0].value().data<float>()[i % 144];
      states.data<float>()[i] = static_cast<float>(decay[layer * 4 + head] * S);
    }
    write_safetensors(golden, {{"tokens", tokens}, {"recurrent_states", states}});
    const VerifyRow row = verify(model, golden).at(0);
    EXPECT_EQ(row.passed(), source != Source::gated) << row.error << " " << row.note;
    if (source == Source::gated)
      expect_says(row.note, "only SUPRA layers whose decay is the same for all tokens");
  }
}

}  // namespace
}  // namespace supra
