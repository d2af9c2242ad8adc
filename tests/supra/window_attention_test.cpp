#include "supra/window_attention.h"

#include <gtest/gtest.h>

#include "supra/formats/parameters.h"
#include "supra/inference/session.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

// What only the window layer promises; the rest it shares with every mixer (mixer_test, session_test, ...).

namespace supra {
namespace {

// Window layers with the weights of a softmax model.
std::shared_ptr<Decoder> windows_of(Decoder& teacher, int64_t window, int64_t sinks) {
  Config config = teacher.config();
  config.mixers.assign(config.layers, MixerKind::window);
  config.windows.assign(config.layers, window);
  config.sinks = sinks;
  return with_mixers(teacher, config);
}

Tensor tokens_of(int64_t B, int64_t T, uint64_t seed) {
  Philox random(seed);
  return Tensor::of(random_ids(random, B * T), {B, T});
}

TEST(WindowAttention, IsTheTeacherOnTextsAsLongAsTheWindow) {
  const auto teacher = tiny_decoder(MixerKind::softmax);
  const Tensor text = tokens_of(2, 33, 1);
  const Tensor expected = teacher->hidden(text).value();
  for (const int64_t sinks : {0, 2, 40}) {
    const auto student = windows_of(*teacher, 33, sinks);
    EXPECT_LT(difference(student->hidden(text).value(), expected).largest, 1e-5) << sinks << " sinks";
  }
  // one token beyond, and it is not
  const auto student = windows_of(*teacher, 32, 0);
  EXPECT_GT(difference(student->hidden(text).value(), expected).largest, 1e-4);
}

// Sinks and window cover all keys until one leaves, wherever the border is.
TEST(WindowAttention, SinksAndWindowTogetherAreTheTeacher) {
  const auto teacher = tiny_decoder(MixerKind::softmax);
  const Tensor text = tokens_of(1, 20, 2);
  const auto student = windows_of(*teacher, 15, 5);
  EXPECT_LT(difference(student->hidden(text).value(), teacher->hidden(text).value()).largest, 1e-5);
}

TEST(WindowAttention, TakesTheSameBytesAtEveryPosition) {
  const auto decoder = stirred_decoder(tiny_config(MixerVariant{"window", MixerKind::window, [](Config& c) { c.far_features = {8, 0}; }}));
  const State state = decoder->init_state(1);
  size_t bytes = 0;
  for (const LayerState& layer : state.layers) {
    for (const Var& part : layer.parts) bytes += part.value().bytes();
  }
  EXPECT_EQ(decoder->state_bytes(0), bytes);
  EXPECT_EQ(decoder->state_bytes(1000000), bytes);
}

// Keys and values in 16 bits: the same for every split of the text, and near to what 32 bits give.
TEST(WindowAttention, KeepsHalfPrecisionTheSameInEverySplit) {
  Config config = tiny_config(MixerKind::window);
  const auto wide = stirred_decoder(config);
  config.state_dtype = Dtype::f16;
  const auto half = with_mixers(*wide, config);
  EXPECT_EQ(2 * half->state_bytes(0), wide->state_bytes(0));

  Philox random(4);
  const std::vector<int32_t> ids = random_ids(random, 90);
  const std::span<const int32_t> text = ids;
  Session whole(*half), split(*half), steps(*half), exact(*wide);
  const Tensor expected = whole.feed(text);
  split.feed(text.first(37));
  expect_close(split.feed(text.subspan(37)), expected, "two pieces");
  for (const int32_t id : ids) steps.step({&id, 1});
  expect_close(steps.logits(), expected, "steps");
  const double apart = difference(exact.feed(text), expected).normalised;
  EXPECT_GT(apart, 1e-7);
  EXPECT_LT(apart, 5e-3);
}

// A step writes its own slot and nothing else.
TEST(WindowAttention, AStepCopiesNoRing) {
  const auto decoder = stirred_decoder(tiny_config(MixerKind::window));
  Philox random(4);
  const std::vector<int32_t> ids = random_ids(random, 40);
  Session session(*decoder);
  session.feed(ids);
  const Tensor ring = session.state().layers[0].parts[0].value(), before = ring.clone();
  session.step({ids.data(), 1});
  EXPECT_EQ(session.state().layers[0].parts[0].value().raw(), ring.raw());
  const int64_t slots = ring.dim(1), slot = 2 + (40 - 2) % 5, row = ring.numel() / slots;
  for (int64_t i = 0; i < slots; i++) {
    const bool same = std::memcmp(ring.data<float>() + i * row, before.data<float>() + i * row, row * sizeof(float)) == 0;
    EXPECT_EQ(same, i != slot) << "slot " << i;
  }
}

// Truncated back-propagation: with the history of the state, gradients of two pieces are those of the whole.
TEST(WindowAttention, GradientsGoThroughTheState) {
  const Config config = tiny_config(MixerVariant{"far", MixerKind::window, [](Config& c) { c.far_features = {8, 4}; }});
  const Tensor text = tokens_of(2, 30, 6), pull = random_normal({2, 30, 24}, 7);
  const auto gradients = [&](std::vector<int64_t> ends) {
    const auto decoder = stirred_decoder(config);
    State state = decoder->init_state(2);
    std::vector<Var> pieces;
    int64_t begin = 0;
    Var total;
    for (const int64_t end : ends) {
      const Var part = mul(decoder->hidden(steps(text, begin, end), &state), Var(steps(pull, begin, end)));
      const Var sums = matmul(reshape(part, {1, -1}), Var(Tensor::full({part.numel(), 1}, 1)));
      total = total.defined() ? add(total, sums) : sums;
      begin = end;
    }
    backward(total);
    std::vector<Tensor> all;
    decoder->visit([&](const std::string& name, Var& parameter) {
      // the output matrix is not part of it
      if (name != "output.weight") all.push_back(parameter.grad());
    });
    return all;
  };
  const std::vector<Tensor> whole = gradients({30}), pieces = gradients({11, 14, 30});
  for (size_t i = 0; i < whole.size(); i++) expect_close(pieces[i], whole[i], format("parameter %zu", i), 20);
}

// Beyond the trained context the distance to the sinks stays what it is behind a full window.
TEST(WindowAttention, SinksStayAtTheirDistanceBeyondTheContext) {
  Config config = tiny_config(MixerKind::window);
  const auto decoder = stirred_decoder(config);
  config.context = 1000000;
  const auto unlimited = with_mixers(*decoder, config);
  const Tensor within = tokens_of(1, 64, 8), beyond = tokens_of(1, 65, 8);
  EXPECT_EQ(difference(decoder->hidden(within).value(), unlimited->hidden(within).value()).largest, 0);
  EXPECT_GT(difference(decoder->hidden(beyond).value(), unlimited->hidden(beyond).value()).largest, 1e-5);
}

TEST(WindowAttention, WrongConfigsAreRefused) {
  const auto message = [](const std::function<void(Config&)>& change) {
    Config config = tiny_config(MixerKind::window);
    change(config);
    try {
      check_config(config, "here");
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message([](Config&) {}), "");
  EXPECT_NE(message([](Config& c) { c.windows.clear(); }).find("sliding window of 0 keys"), std::string::npos);
  EXPECT_NE(message([](Config& c) { c.windows = {5, 0}; }).find("layer 1 has a sliding window of 0 keys"), std::string::npos);
  EXPECT_NE(message([](Config& c) { c.sinks = 65; }).find("65 attention sinks"), std::string::npos);
  EXPECT_NE(message([](Config& c) { c.far_features = {7, 0}; }).find("7 far features"), std::string::npos);
  EXPECT_NE(message([](Config& c) { c.key_dim = 12; }).find("in layer 0, a window layer"), std::string::npos);
}

}  // namespace
}  // namespace supra
