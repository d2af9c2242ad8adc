#include "supra/training/fit_far.h"

#include <gtest/gtest.h>

#include <map>

#include "supra/formats/parameters.h"
#include "supra/training/calibrate.h"
#include "supra/window_attention.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

// Far parts of window layers, fitted layer by layer to what the teacher's attention gives.

namespace supra {
namespace {

Config window_config() {
  Config c = tiny_config(MixerKind::window);
  c.windows = {8, 8};
  c.sinks = 2;
  c.far_features = {12, 12};
  return c;
}

// As linearize() makes it: the teacher's weights, and a far part that weighs next to nothing.
std::shared_ptr<Decoder> fresh_student(Decoder& teacher, const Config& config = window_config()) {
  const auto student = make_decoder(config);
  student->init_weights(1);
  std::map<std::string, Tensor> weights;
  teacher.visit([&](const std::string& name, Var& parameter) { weights[name] = parameter.value(); });
  student->visit([&](const std::string& name, Var& parameter) {
    if (const auto found = weights.find(name); found != weights.end()) parameter.value().copy_from(found->second);
  });
  return student;
}

// Weights of a small variance attend to everything alike: these do not.
std::shared_ptr<Decoder> choosy_teacher() {
  const auto teacher = tiny_decoder(MixerKind::softmax);
  teacher->visit([&](const std::string& name, Var& parameter) {
    if (name.find("in_proj") != std::string::npos) parameter.value().copy_from(scale(parameter.detach(), 2).value());
  });
  return teacher;
}

std::vector<Batch> some_batches(int64_t n) {
  Philox random(8);
  std::vector<Batch> batches(n);
  for (Batch& batch : batches) batch.tokens = Tensor::of(random_ids(random, 4 * 64), {4, 64});
  return batches;
}

std::vector<Tensor> parameters_of(Decoder& decoder) {
  std::vector<Tensor> all;
  decoder.visit([&](const std::string&, Var& parameter) { all.push_back(parameter.value().clone()); });
  return all;
}

void expect_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++) EXPECT_EQ(memcmp(a[i].raw(), b[i].raw(), a[i].bytes()), 0) << i;
}

const FitOptions kQuick = {.epochs = 6, .kl_tokens = 512};

TEST(FitFar, ErrorsFallOnTextThatIsHeldOut) {
  const auto teacher = choosy_teacher(), student = fresh_student(*teacher);
  const std::vector<Tensor> before = parameters_of(*student);
  int64_t epochs = 0;
  FitHooks hooks;
  hooks.on_epoch = [&](int64_t done, int64_t of, const FittedLayer&) {
    EXPECT_EQ(done, ++epochs);
    EXPECT_EQ(of, 12);
  };
  const Fit fit = fit_far(*student, *teacher, some_batches(20), kQuick, hooks);
  ASSERT_EQ(fit.layers.size(), 2u);
  EXPECT_EQ(epochs, 12);
  for (const FittedLayer& layer : fit.layers) {
    EXPECT_LT(layer.after, 0.5 * layer.before) << layer.layer;
    EXPECT_TRUE(layer.kept()) << layer.kl << " " << layer.kl_window;
  }
  EXPECT_EQ(fit.config.far_features, window_config().far_features);
  // nothing but far parts has changed
  size_t i = 0;
  student->visit([&](const std::string& name, Var& parameter) {
    const Tensor& was = before[i++];
    EXPECT_EQ(memcmp(was.raw(), parameter.value().raw(), was.bytes()) != 0, name.find("_totrain_far") != std::string::npos) << name;
  });
}

TEST(FitFar, GoesOnBitForBit) {
  const auto teacher = choosy_teacher(), whole = fresh_student(*teacher), parts = fresh_student(*teacher);
  const std::vector<Batch> batches = some_batches(6);
  const TempDir folder;
  FitOptions options = kQuick;
  options.file = folder.path() / "student.fit";
  const Fit expected = fit_far(*whole, *teacher, batches, kQuick);
  FitHooks hooks;
  bool stop = false;
  hooks.on_epoch = [&](int64_t done, int64_t, const FittedLayer&) { stop = done == 8; };
  hooks.should_stop = [&] { return stop; };
  EXPECT_TRUE(fit_far(*parts, *teacher, batches, options, hooks).interrupted);

  const auto again = fresh_student(*teacher);
  int64_t epochs = 0;
  hooks = {};
  hooks.on_epoch = [&](int64_t, int64_t, const FittedLayer& layer) { epochs += layer.layer == 1; };
  const Fit fit = fit_far(*again, *teacher, batches, options, hooks);
  EXPECT_FALSE(fit.interrupted);
  EXPECT_EQ(fit.layers, expected.layers);
  EXPECT_EQ(epochs, 6);
  expect_same(parameters_of(*again), parameters_of(*whole));
  // all is there now; of another origin nothing is
  hooks.on_epoch = [&](int64_t, int64_t, const FittedLayer&) { FAIL() << "a layer is fitted again"; };
  EXPECT_EQ(fit_far(*fresh_student(*teacher), *teacher, batches, options, hooks).layers, expected.layers);
  options.origin = "another model";
  hooks.on_epoch = {};
  hooks.should_stop = [] { return true; };
  EXPECT_TRUE(fit_far(*fresh_student(*teacher), *teacher, batches, options, hooks).layers.empty());
}

// A far part that has learned nothing is worth less than a longer window.
TEST(FitFar, WhatDoesNotPayBecomesWindow) {
  const auto teacher = choosy_teacher(), student = fresh_student(*teacher);
  FitOptions options = kQuick;
  options.epochs = 0;
  const Fit fit = fit_far(*student, *teacher, some_batches(2), options);
  for (const FittedLayer& layer : fit.layers) EXPECT_FALSE(layer.kept()) << layer.kl << " " << layer.kl_window;
  EXPECT_EQ(fit.config.far_features, std::vector<int64_t>({0, 0}));
  // 12 features of 6 values and their sum, in keys and values of 12 numbers
  EXPECT_EQ(fit.config.windows, std::vector<int64_t>({15, 15}));
  EXPECT_EQ(with_mixers(*student, fit.config)->state_bytes(1), student->state_bytes(1));
}

TEST(FitFar, WhatTheTextNeverLeavesLosesItsFarPart) {
  Config config = window_config();
  config.windows[1] = 64;
  const auto teacher = choosy_teacher(), student = fresh_student(*teacher, config);
  const Fit fit = fit_far(*student, *teacher, some_batches(2), {.epochs = 1, .kl_tokens = 256});
  ASSERT_EQ(fit.layers.size(), 1u);
  EXPECT_EQ(fit.layers[0].layer, 0);
  EXPECT_EQ(fit.config.far_features[1], 0);
  EXPECT_EQ(with_mixers(*student, fit.config)->state_bytes(1), student->state_bytes(1));
}

TEST(FitFar, SaysWhatCannotBeFitted) {
  const auto teacher = choosy_teacher(), student = fresh_student(*teacher);
  const auto complaint = [&](const std::vector<Batch>& batches) -> std::string {
    try {
      fit_far(*student, *teacher, batches, kQuick);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_NE(complaint(some_batches(1)).find("give more text"), std::string::npos);
  std::vector<Batch> shorter = some_batches(2);
  for (Batch& batch : shorter) batch.tokens = batch.tokens.view({32, 8});
  EXPECT_NE(complaint(shorter).find("give smaller windows"), std::string::npos);
}

TEST(FitFar, CorrectionBringsAStudentCloserOrLeavesItAlone) {
  const auto teacher = tiny_decoder(MixerKind::softmax), student = fresh_student(*teacher);
  const Correction better = correct_projections(*student, *teacher, some_batches(20));
  EXPECT_TRUE(better.kept());
  EXPECT_LT(better.kl_after, better.kl_before);
  // of a student that is its teacher, only rounding could be corrected
  Config all = window_config();
  all.windows = {64, 64};
  all.far_features = {};
  const auto same = with_mixers(*fresh_student(*teacher), all);
  const std::vector<Tensor> before = parameters_of(*same);
  const Correction none = correct_projections(*same, *teacher, some_batches(2));
  EXPECT_LT(none.kl_before, 1e-6);
  if (!none.kept()) expect_same(parameters_of(*same), before);
}

}  // namespace
}  // namespace supra
