#include "supra/evaluation/window_budget.h"

#include <gtest/gtest.h>

#include <numeric>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/parameters.h"
#include "supra/linearize.h"
#include "supra/window_attention.h"
#include "tests/fuzz_formats.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

// Layers that see all of a sequence.
Model wide_student(int64_t layers, const std::vector<int64_t>& keep = {}) {
  Config config = tiny_config(MixerKind::softmax);
  config.layers = layers;
  config.mixers.assign(layers, MixerKind::softmax);
  Model teacher;
  teacher.decoder = make_decoder(config);
  teacher.decoder->init_weights(3);
  LinearizeOptions options;
  options.mixer = MixerKind::window;
  options.windows = {{config.context}};
  options.sinks = 2;
  options.keep_softmax = keep;
  return linearize(teacher, options).model;
}

Sequences some_text(int64_t sequences) {
  Philox random(8);
  Sequences text;
  for (int64_t i = 0; i < sequences; i++) text.push_back(random_ids(random, 48));
  return text;
}

int64_t bytes_of(Config config, const std::vector<int64_t>& windows) {
  config.windows = windows;
  return static_cast<int64_t>(describe_decoder(config)->state_bytes(0));
}

// What is measured layer by layer is what whole models score.
TEST(WindowBudget, SensitivityIsTheLossOfWholeModels) {
  const Model student = wide_student(3, {1});
  const Sequences text = some_text(2);
  const Sensitivity s = measure_sensitivity(*student.decoder, text);
  Config config = student.config();
  const auto loss = [&](std::vector<int64_t> windows) {
    config.windows = std::move(windows);
    return evaluate(*with_mixers(*student.decoder, config), text).nll;
  };
  EXPECT_EQ(s.window, 6);
  EXPECT_NEAR(s.full, loss({64, 0, 64}), 1e-6);
  EXPECT_NEAR(s.base, loss({6, 0, 6}), 1e-6);
  EXPECT_NEAR(s.gains[0], s.base - loss({64, 0, 6}), 1e-6);
  EXPECT_EQ(s.gains[1], 0);
  EXPECT_NEAR(s.gains[2], s.base - loss({6, 0, 64}), 1e-6);
}

// A layer whose output is thrown away gains nothing.
TEST(WindowBudget, ADeadLayerGainsNothing) {
  const Model student = wide_student(3);
  student.decoder->visit([](const std::string& name, Var& parameter) {
    if (name == "layers.1.attention.out_proj.weight") parameter.value().copy_from(Tensor::zeros(parameter.shape()));
  });
  const Sensitivity s = measure_sensitivity(*student.decoder, some_text(2));
  EXPECT_EQ(s.gains[1], 0);
  EXPECT_NE(s.gains[0], 0);
  EXPECT_NE(s.gains[2], 0);
}

TEST(WindowBudget, AllocationsFitAndFollowTheGains) {
  Config config = tiny_config(MixerKind::window);
  config.layers = 12;
  config.mixers.assign(12, MixerKind::window);
  config.mixers[5] = MixerKind::softmax;
  config.windows.assign(12, 4096);
  config.windows[5] = 0;
  config.windows[6] = 20;  // the teacher's own
  config.sinks = 4;
  Sensitivity s;
  for (int i = 0; i < 12; i++) s.gains.push_back(i == 5 ? 0 : 0.01 * (i + 1));
  // keys and values of two heads of 6, in f32
  const int64_t key = 2 * 2 * 6 * 4, least = 11 * (4 + 1) * key;
  EXPECT_EQ(bytes_of(config, {1, 1, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1}), least);
  for (const Dtype dtype : {Dtype::f32, Dtype::f16}) {
    config.state_dtype = dtype;
    for (const int64_t bytes : {least, least + key, int64_t{100'000}, int64_t{1'000'000}, int64_t{10'000'000}}) {
      const std::vector<WindowTry> tries = window_allocations(config, bytes, s);
      ASSERT_FALSE(tries.empty());
      EXPECT_EQ(tries[0].name, "all alike");
      for (const WindowTry& one : tries) {
        const std::vector<int64_t>& w = one.windows;
        const int64_t taken = bytes_of(config, w);
        EXPECT_LE(taken, bytes) << one.name;
        const bool all = std::accumulate(w.begin(), w.end(), int64_t{0}) == 10 * 4096 + 20;
        EXPECT_TRUE(all || taken > bytes - 12 * key) << one.name << " " << taken << " of " << bytes;
        for (int i = 0; i < 12; i++) {
          EXPECT_LE(w[i], config.windows[i]);
          EXPECT_GE(w[i], i == 5 ? 0 : 1);
        }
        // the greater the gain, the more keys
        for (int i = 1; i < 5; i++) EXPECT_GE(w[i], w[i - 1]) << one.name << " " << i;
      }
    }
  }
  config.state_dtype = Dtype::f32;
  const std::string complaint = complaint_of([&] { check_state_bytes(config, least - 1); });
  EXPECT_NE(complaint.find(std::to_string(least)), std::string::npos) << complaint;
}

TEST(WindowBudget, TheBestOnAllOfTheTextComesFirst) {
  const Model student = wide_student(3);
  const Sequences text = some_text(4);
  Sensitivity s;
  s.gains = {0.3, 0.2, 0.1};
  const int64_t bytes = bytes_of(student.config(), {20, 20, 20});
  int64_t last = 0, total = 0;
  const auto tries = try_allocations(*student.decoder, window_allocations(student.config(), bytes, s), text, [&](int64_t done, int64_t all) {
    EXPECT_EQ(done, ++last);
    total = all;
  });
  EXPECT_EQ(last, total);
  Config config = student.config();
  for (size_t i = 0; i < tries.size(); i++) {
    config.windows = tries[i].windows;
    const Sequences scored = tries[i].finalist ? text : Sequences(text.begin(), text.begin() + 2);
    EXPECT_NEAR(tries[i].nll, evaluate(*with_mixers(*student.decoder, config), scored).nll, 1e-6);
    EXPECT_TRUE(i == 0 || !tries[i].finalist || tries[i].nll >= tries[i - 1].nll);
  }
  EXPECT_TRUE(tries[0].finalist);
}

}  // namespace
}  // namespace supra
