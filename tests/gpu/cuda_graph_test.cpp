#include "supra/inference/session.h"
#include "tests/gpu/cuda_support.h"
#include "tests/tiny_model.h"

// Recorded work does what the same calls do: whole decode steps, bit for bit.

namespace supra {
namespace {

std::vector<std::vector<int32_t>> random_prompts(Philox& random, int64_t B) {
  std::vector<std::vector<int32_t>> prompts;
  for (int64_t b = 0; b < B; b++) prompts.push_back(random_ids(random, 2 + b));
  return prompts;
}

// Both do the same; the logits are equal all along, and the states in the end.
void expect_equal_steps(const Decoder& decoder, int64_t B, int steps = 3) {
  Session plain(decoder, B), recorded(decoder, B);
  plain.use_graph(false);
  Philox random(3);
  const auto step = [&](int count) {
    for (int i = 0; i < count; i++) {
      const std::vector<int32_t> ids = random_ids(random, B);
      EXPECT_TRUE(same_bits(recorded.step(ids), plain.step(ids))) << "step " << i << " of " << count;
    }
  };
  step(steps);
  // rows go on from different positions
  const auto prompts = random_prompts(random, B);
  EXPECT_TRUE(same_bits(recorded.feed(prompts), plain.feed(prompts)));
  step(2);
  State kept = recorded.state();
  const State copy = kept.clone();
  for (Session* session : {&plain, &recorded}) session->reset();
  step(2);
  // what somebody holds is not written to
  for (size_t i = 0; i < kept.layers.size(); i++) {
    EXPECT_TRUE(same_bits(kept.layers[i].parts[0].value().to(Device::cpu), copy.layers[i].parts[0].value().to(Device::cpu)));
  }
  for (Session* session : {&plain, &recorded}) session->set_state(copy.clone());
  step(2);
  for (size_t i = 0; i < copy.layers.size(); i++) {
    EXPECT_TRUE(same_bits(recorded.state().layers[i].parts[0].value().to(Device::cpu),
                          plain.state().layers[i].parts[0].value().to(Device::cpu)));
  }
  EXPECT_EQ(recorded.why_no_graph(), "");
  EXPECT_EQ(plain.why_no_graph(), "graphs are switched off");
}

}  // namespace

TEST_F(Cuda, a_recorded_step_is_the_step) {
  for (const MixerVariant& variant : mixer_variants()) {
    if (variant.kind == MixerKind::softmax) continue;
    const auto decoder = stirred_decoder(tiny_config(variant));
    const bool in_full = variant.name == std::string("everything");
    for (const Dtype activations : {Dtype::f32, Dtype::bf16}) {
      decoder->to(Device::cuda, activations);
      for (const int64_t B : {1, 3}) {
        if (!in_full && (B == 3) != (activations == Dtype::bf16)) continue;
        SCOPED_TRACE(format("%s, %s, B%ld", variant.name, name(activations), static_cast<long>(B)));
        expect_equal_steps(*decoder, B, in_full ? 20 : 3);
      }
    }
  }
}

TEST_F(Cuda, recorded_steps_of_every_rope_many_rows_and_stored_weights) {
  const MixerVariant supra = {"supra"};
  for (const Rope::Layout layout : {Rope::Layout::none, Rope::Layout::interleaved, Rope::Layout::by_head}) {
    SCOPED_TRACE(static_cast<int>(layout));
    Config config = tiny_config(supra);
    config.rope.layout = layout;
    const auto decoder = stirred_decoder(config);
    decoder->to(Device::cuda);
    expect_equal_steps(*decoder, 2);
  }
  const auto decoder = stirred_decoder(block_config(supra));
  quantize(*decoder, Dtype::q4_0);
  decoder->to(Device::cuda, Dtype::bf16);
  expect_equal_steps(*decoder, 1);
  // these are no gemv
  expect_equal_steps(*decoder, cuda::kGemvRows + 1);
}

// Positions go round the ring and beyond the context, where queries meet the sinks otherwise.
TEST_F(Cuda, recorded_steps_of_a_window_are_those_of_the_cpu) {
  Config config = tiny_config(MixerKind::window);
  config.windows = {3, 5}, config.far_features = {8, 4}, config.context = 9;
  const auto here = stirred_decoder(config), there = stirred_decoder(config);
  there->to(Device::cuda);
  Session plain(*here, 2), recorded(*there, 2);
  Philox random(5);
  const auto prompts = random_prompts(random, 2);
  plain.feed(prompts), recorded.feed(prompts);
  for (int i = 0; i < 16; i++) {
    const std::vector<int32_t> ids = random_ids(random, 2);
    EXPECT_LE(difference(recorded.step(ids), plain.step(ids)).normalised, 1e-4) << "step " << i;
  }
  EXPECT_EQ(recorded.why_no_graph(), "");
}

TEST_F(Cuda, two_sessions_record_apart) {
  const auto decoder = stirred_decoder(tiny_config(MixerKind::supra));
  decoder->to(Device::cuda);
  auto a = std::make_unique<Session>(*decoder);
  Session b(*decoder), plain(*decoder);
  plain.use_graph(false);
  const int32_t first = 7;
  a->step(std::span(&first, 1));
  for (int32_t id = 1; id < 6; id++) {
    b.step(std::span(&id, 1));
    if (id == 3) a = std::make_unique<Session>(*decoder);
    a->step(std::span(&id, 1));
    EXPECT_TRUE(same_bits(b.logits(), plain.step(std::span(&id, 1))));
  }
}

// To time products within a recording is not possible.
TEST_F(Cuda, a_recording_that_fails_leaves_plain_steps) {
  Config config = tiny_config(MixerKind::supra);
  config.per_head_feature_map = true;
  const auto decoder = stirred_decoder(config);
  decoder->to(Device::cuda);
  Session session(*decoder), plain(*decoder);
  plain.use_graph(false);
  for (int32_t id = 1; id < 5; id++) {
    cuda::time_products(id > 1);
    const Tensor logits = session.step(std::span(&id, 1));
    EXPECT_TRUE(same_bits(logits, plain.step(std::span(&id, 1))));
  }
  cuda::time_products(false);
  EXPECT_NE(session.why_no_graph().find("capturing"), std::string::npos) << session.why_no_graph();
}

TEST_F(Cuda, what_cannot_be_recorded_says_why) {
  Config config = tiny_config(MixerKind::supra);
  config.learned_positions = true;
  const auto learned = stirred_decoder(config), cached = tiny_decoder(MixerKind::softmax);
  EXPECT_EQ(Session(*learned).why_no_graph(), "the model is not on a GPU");
  learned->to(Device::cuda), cached->to(Device::cuda);
  EXPECT_EQ(Session(*learned).why_no_graph(), "the model has learned positions");
  EXPECT_EQ(Session(*cached).why_no_graph(), "layer 0 has a cache that grows");

  const Tensor x = gpu(Tensor::full({4}, 3)), y = gpu_empty({4});
  EXPECT_THROW(cuda::Graph([&] { x.to(Device::cpu); }), Error);
  EXPECT_THROW(cuda::Graph([&] { x.copy_from(Tensor::full({4}, 1)); }), Error);
  EXPECT_THROW(cuda::Graph([&] { cuda::synchronize(); }), Error);
  EXPECT_FALSE(cuda::recording());
  // nothing of these was done, and work goes on
  EXPECT_TRUE(same_bits(x.clone().to(Device::cpu), Tensor::full({4}, 3)));
  {
    const cuda::Graph graph([&] { y.copy_from(add(Var(x), Var(scale(Var(x), 2))).value()); });
    x.fill(1);
    graph.launch();
  }
  EXPECT_TRUE(same_bits(y.to(Device::cpu), Tensor::full({4}, 3)));
}

}  // namespace supra
