#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "supra/formats/weights/safetensors.h"
#include "supra/inference/generate.h"
#include "supra/inference/session.h"
#include "tensor/quantized.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

double distance(const Tensor& a, const Tensor& b) { return difference(a, b).largest; }

class SessionTest : public testing::TestWithParam<MixerVariant> {
 protected:
  std::shared_ptr<Decoder> decoder = stirred_decoder(tiny_config(GetParam()));
};

// What is left of a KV cache behind the position is of no matter; compare what counts.
double state_distance(const Session& a, const Session& b) {
  double worst = 0;
  for (size_t i = 0; i < a.state().layers.size(); i++) {
    const auto &x = a.state().layers[i].parts, &y = b.state().layers[i].parts;
    for (size_t k = 0; k < x.size(); k++) {
      const Tensor p = x[k].value(), q = y[k].value();
      if (p.rank() == 3 || (p.shape() == q.shape() && x.size() == 1)) {
        worst = std::max(worst, distance(p, q));
      } else {
        const int64_t n = std::min(a.position() * p.dim(2) * p.dim(3), p.numel());
        worst = std::max(worst, distance(p.view({-1}).rows(0, n), q.view({-1}).rows(0, n)));
      }
    }
  }
  return worst;
}

TEST_P(SessionTest, AnySplitOfAPromptEqualsOnePass) {
  Philox random(11);
  for (int trial = 0; trial < 20; trial++) {
    const int64_t n = 1 + static_cast<int64_t>(random.below(200));
    const std::vector<int32_t> ids = random_ids(random, n);
    Session whole(*decoder), split(*decoder);
    whole.feed(ids);
    for (int64_t at = 0; at < n;) {
      const int64_t length = std::min<int64_t>(n - at, 1 + static_cast<int64_t>(random.below(70)));
      if (random.below(3) == 0) {
        for (int64_t i = 0; i < length; i++) split.step(std::span(&ids[at + i], 1));
      } else {
        split.feed(std::span(ids).subspan(at, length));
      }
      at += length;
    }
    EXPECT_EQ(split.position(), n);
    EXPECT_LT(distance(split.logits(), whole.logits()), 2e-5) << "of " << n << " tokens";
    EXPECT_LT(state_distance(split, whole), 2e-5) << "of " << n << " tokens";
  }
}

TEST_P(SessionTest, ABatchOfDifferentLengthsEqualsOneByOne) {
  Philox random(12);
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t n : {1, 77, 0, 5, 64, 130}) prompts.push_back(random_ids(random, n));
  Session batch(*decoder, static_cast<int64_t>(prompts.size()));
  batch.feed(prompts);
  // again, from states of different positions
  std::vector<std::vector<int32_t>> more;
  for (int64_t n : {3, 0, 9, 66, 1, 2}) more.push_back(random_ids(random, n));
  batch.feed(more);
  std::vector<int32_t> next = random_ids(random, static_cast<int64_t>(prompts.size()));
  batch.step(next);
  for (size_t b = 0; b < prompts.size(); b++) {
    Session one(*decoder);
    if (!prompts[b].empty()) one.feed(prompts[b]);
    if (!more[b].empty()) one.feed(more[b]);
    one.step(std::span(&next[b], 1));
    const int64_t row = static_cast<int64_t>(b);
    EXPECT_EQ(batch.position(row), one.position());
    EXPECT_LT(distance(batch.logits().rows(row, row + 1), one.logits()), 2e-5) << "row " << b;
  }
}

TEST_P(SessionTest, AStateIsAValue) {
  Philox random(13);
  const std::vector<int32_t> ids = random_ids(random, 40);
  Session session(*decoder);
  session.feed(ids);
  const State saved = session.state().clone();
  const int32_t next = 5;
  const Tensor first = session.step(std::span(&next, 1)).clone();
  session.feed(ids);
  session.set_state(saved.clone());
  EXPECT_EQ(distance(session.step(std::span(&next, 1)), first), 0);
  session.reset();
  EXPECT_EQ(session.position(), 0);
}

TEST_P(SessionTest, AStateSurvivesAFile) {
  const TempDir directory;
  const Path file = directory.path() / "session.state";
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5};
  Session session(*decoder), other(*decoder);
  session.feed(ids);
  session.save(file);
  other.load(file);
  EXPECT_EQ(distance(other.logits(), session.logits()), 0);
  const int32_t next = 7;
  EXPECT_EQ(distance(other.step(std::span(&next, 1)), session.step(std::span(&next, 1))), 0);

  // a state of another shape is refused, and changes nothing
  Config wider = tiny_config(GetParam());
  wider.value_dim = 8;
  auto stranger = make_decoder(wider);
  Session wrong(*stranger);
  EXPECT_THROW(wrong.load(file), Error);
  EXPECT_EQ(wrong.position(), 0);
}

TEST(Session, AStateIn16BitsSurvivesAFile) {
  const TempDir directory;
  const Path file = directory.path() / "session.state";
  Config config = tiny_config(MixerKind::window);
  config.state_dtype = Dtype::f16;
  config.far_features = {0, 4};
  const auto decoder = stirred_decoder(config);
  Philox random(15);
  Session session(*decoder), other(*decoder);
  session.feed(random_ids(random, 40));
  session.save(file);
  other.load(file);
  for (size_t i = 0; i < 2; i++) {
    const auto &saved = session.state().layers[i].parts, &loaded = other.state().layers[i].parts;
    EXPECT_EQ(loaded[0].dtype(), Dtype::f16);
    for (size_t k = 0; k < saved.size(); k++) EXPECT_TRUE(same_bits(saved[k].value(), loaded[k].value()));
  }
}

// A KV cache doubles its capacity as it grows; a file needs the steps that were written.
TEST_P(SessionTest, AFileHoldsTheStepsThatWereWritten) {
  const TempDir directory;
  const Path file = directory.path() / "session.state";
  Session session(*decoder, 2), other(*decoder, 2);
  session.feed({{1, 2, 3, 4, 5}, {6, 7}});
  session.save(file);
  if (GetParam().kind == MixerKind::softmax) {
    EXPECT_EQ(open_safetensors(file)->get("layers.0.state.0").shape(), (Shape{2, 5, 2, 6}));
    EXPECT_EQ(session.state().layers[0].parts[0].dim(1), 64);
  }
  other.load(file);
  const std::vector<int32_t> next = {7, 8};
  EXPECT_EQ(distance(other.step(next), session.step(next)), 0);
}

TEST_P(SessionTest, ADamagedPositionIsRefused) {
  const TempDir directory;
  const Path file = directory.path() / "session.state";
  Session session(*decoder);
  session.feed(std::vector<int32_t>{1, 2, 3});
  for (int64_t position : {int64_t{-1}, int64_t{1} << 40, INT64_MAX}) {
    State state = session.state().clone();
    state.positions[0] = position;
    Session damaged(*decoder), other(*decoder);
    damaged.set_state(state);
    damaged.save(file);
    // a recurrent state is as large at any position
    if (position == int64_t{1} << 40 && GetParam().kind != MixerKind::softmax) {
      EXPECT_NO_THROW(other.load(file));
    } else {
      EXPECT_THROW(other.load(file), Error);
    }
  }
}

TEST_P(SessionTest, GeneratesTheSameForTheSameSeed) {
  std::vector<std::vector<int32_t>> texts;
  for (uint64_t seed : {1, 1, 2}) {
    Session session(*decoder);
    std::vector<int32_t> history = {3, 4};
    session.feed(history);
    SamplerOptions options;
    options.seed = seed;
    Sampler sampler(options);
    GenerateOptions generation;
    generation.tokens = 30;
    texts.push_back(generate(session, nullptr, sampler, history, generation).ids);
    EXPECT_EQ(history.size(), 32u);
    EXPECT_EQ(session.position(), 32);
  }
  EXPECT_EQ(texts[0], texts[1]);
  EXPECT_NE(texts[0], texts[2]);
}

// A prompt meets quantized weights as f32, a step meets them as integers.
TEST(Session, BeyondItsContextASoftmaxModelIsSpokenOf) {
  const Config softmax = tiny_config(MixerKind::softmax), recurrent = tiny_config(MixerKind::supra);
  EXPECT_EQ(beyond_context(softmax, softmax.context), "");
  EXPECT_NE(beyond_context(softmax, softmax.context + 1).find("beyond the model's context of 64"), std::string::npos);
  EXPECT_EQ(beyond_context(recurrent, 1 << 20), "");
}

TEST_P(SessionTest, QuantizedWeightsFeedAndStepAlike) {
  const auto small = stirred_decoder(block_config(GetParam()));
  Philox random(14);
  const std::vector<int32_t> ids = random_ids(random, 70);
  for (Dtype dtype : {Dtype::bf16, Dtype::q8_0, Dtype::q4_0}) {
    EXPECT_TRUE(quantize(*small, dtype).empty());
    Session fed(*small), stepped(*small);
    fed.feed(ids);
    for (const int32_t id : ids) stepped.step(std::span(&id, 1));
    EXPECT_LT(distance(stepped.logits(), fed.logits()), is_quantized(dtype) ? 1e-3 : 2e-5) << name(dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Mixers, SessionTest, testing::ValuesIn(mixer_variants()),
                         [](const auto& info) { return info.param.name; });

TEST(Sampler, KeepsToItsRules) {
  const std::vector<float> logits = {1, 3, 2, 3, -5};
  SamplerOptions o;
  o.temperature = 0;
  EXPECT_EQ(Sampler(o).choose(logits), 1);
  o = {};
  o.top_k = 1;
  EXPECT_EQ(Sampler(o).choose(logits), 1);
  o = {};
  o.temperature = 1;
  o.top_p = 1;
  o.min_p = 0.3;  // e^-1 = 0.37 of the best survives, e^-2 does not
  Sampler sampler(o);
  std::vector<int> seen(5);
  for (int i = 0; i < 2000; i++) seen[sampler.choose(logits)]++;
  EXPECT_EQ(seen[0] + seen[4], 0);
  // 1 : 1 : e^-1
  EXPECT_NEAR(seen[2] / 2000.0, 0.155, 0.03);
  EXPECT_NEAR(seen[1] / 2000.0, 0.42, 0.04);
  o.repeat_penalty = 10;
  o.top_k = 1;
  const std::vector<int32_t> recent = {1, 3};
  EXPECT_EQ(Sampler(o).choose(logits, recent), 2);
  EXPECT_THROW(Sampler(SamplerOptions{.temperature = -1}), Error);
  EXPECT_THROW(Sampler(SamplerOptions{.top_p = 0}), Error);
  const std::vector<float> broken = {1, NAN};
  EXPECT_THROW(Sampler(SamplerOptions{}).choose(broken), Error);
}

}  // namespace
}  // namespace supra
