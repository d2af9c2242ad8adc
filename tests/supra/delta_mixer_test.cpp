#include <gtest/gtest.h>

#include "supra/delta_attention.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

// What only the delta layer promises; the rest it shares with every mixer (mixer_test, session_test, ...).

namespace supra {
namespace {

// Queries of zeros weigh all keys alike: the distance is half the keys that are seen, and the entropy the largest.
TEST(DeltaMixer, ReachOfEqualWeights) {
  for (const int64_t window : {0, 4}) {
    Config config = tiny_config(MixerKind::softmax);
    config.windows = {window, window};
    const auto teacher = make_decoder(config);
    teacher->init_weights(3);
    teacher->visit([](const std::string& name, Var& parameter) {
      if (name.ends_with("in_proj.weight")) parameter.value().fill(0);
    });
    std::vector<HeadReach> sums(4);
    // the second row has 3 steps; the first is two documents, of 7 and 2
    const auto& layer = dynamic_cast<const SoftmaxAttention&>(teacher->mixer(0));
    const int64_t queries = layer.add_reach(sums, Var(random_normal({2, 9, 24}, 4)), {{0, 0}, {9, 3}, {{7}, {}}});
    EXPECT_EQ(queries, 6 + 1 + 2);
    const double distance = window == 0 ? 0.5 * (1 + 2 + 3 + 4 + 5 + 6 + 1 + 1 + 2) : 0.5 * (1 + 2 + 4 * 3 + 1 + 1 + 2);
    for (const HeadReach& head : sums) {
      EXPECT_NEAR(head.distance, distance, 1e-4);
      EXPECT_NEAR(head.entropy, 9, 1e-4);
    }
  }
}

TEST(DeltaMixer, StartsAsItsTeacherLooksBack) {
  const auto decoder = tiny_decoder(MixerKind::delta);
  const auto& layer = dynamic_cast<const DeltaAttention&>(decoder->mixer(0));
  EXPECT_TRUE(layer.is_fresh());
  layer.start_as({{1, 0}, {20, 0.5}, {1000, 1}, {20, 1}});
  const auto gate = [&](const char* name, int64_t h) {
    double x = 0;
    decoder->visit([&](const std::string& path, Var& parameter) {
      if (path == std::string("layers.0.attention._totrain_") + name + ".bias") x = parameter.value().data<float>()[h];
    });
    return 1 / (1 + std::exp(-x));
  };
  const double half_lives[] = {3, 20 * std::log(2), 32, 20 * std::log(2)}, betas[] = {0.7, 0.5, 0.3, 0.3};
  for (int64_t h = 0; h < 4; h++) {
    EXPECT_NEAR(std::pow(gate("decay", h), half_lives[h]), 0.5, 1e-5) << h;
    EXPECT_NEAR(gate("beta", h), betas[h], 1e-6) << h;
  }
  decoder->visit([](const std::string& name, Var& parameter) {
    if (name.ends_with("_totrain_beta.weight")) parameter.value().data<float>()[5] = 0.1f;
  });
  EXPECT_FALSE(layer.is_fresh());
}

TEST(DeltaMixer, WrongConfigsAreRefused) {
  const auto refused = [](void (*change)(Config&)) {
    Config config = tiny_config(MixerKind::delta);
    change(config);
    EXPECT_THROW(check_config(config, "here"), Error);
  };
  refused([](Config& c) { c.decay.source = DecayConfig::Source::fixed; });
  refused([](Config& c) { c.output_norm = OutputNorm::denominator; });
  refused([](Config& c) { c.key_dim = 2 * c.head_dim; });
}

}  // namespace
}  // namespace supra
