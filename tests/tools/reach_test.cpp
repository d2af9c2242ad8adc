#include <gtest/gtest.h>

#include "supra/evaluation/mixer_parts.h"
#include "supra/evaluation/perplexity.h"
#include "supra/formats/parameters.h"
#include "supra/window_attention.h"
#include "tests/cli.h"
#include "tests/tiny_model.h"

// How far back a model reaches: loss by position, a student with parts left out.

namespace supra {
namespace {

std::vector<std::vector<int32_t>> random_sequences(std::initializer_list<int64_t> lengths) {
  Philox random(11);
  std::vector<std::vector<int32_t>> sequences;
  for (const int64_t length : lengths) sequences.push_back(random_ids(random, length));
  return sequences;
}

Config far_config() {
  Config config = tiny_config(MixerKind::window);
  config.far_features = {8, 0};
  return config;
}

double nll_of(const std::vector<PartsVariant>& variants, const std::string& parts, const std::vector<std::vector<int32_t>>& sequences) {
  for (const PartsVariant& variant : variants) {
    if (variant.parts == parts) return evaluate(*variant.decoder, sequences).nll;
  }
  ADD_FAILURE() << "no row " << parts;
  return 0;
}

TEST(Reach, BandsAreTheLossesOfTheirPositions) {
  const auto decoder = tiny_decoder(MixerKind::supra);
  const auto sequences = random_sequences({700, 130, 40, 1});
  const Perplexity all = evaluate(*decoder, sequences);
  ASSERT_EQ(all.by_position.size(), 4u);
  const int64_t from[] = {0, 128, 256, 512}, to[] = {128, 256, 512, 1024}, tokens[] = {127 + 127 + 39, 128 + 2, 256, 188};
  double sum = 0;
  for (int i = 0; i < 4; i++) {
    EXPECT_EQ(all.by_position[i].from, from[i]);
    EXPECT_EQ(all.by_position[i].to, to[i]);
    EXPECT_EQ(all.by_position[i].tokens, tokens[i]);
    sum += all.by_position[i].nll * static_cast<double>(tokens[i]);
  }
  EXPECT_NEAR(sum / static_cast<double>(all.tokens), all.nll, 1e-9);
  // the first band is what the sequences are worth when they end there
  auto cut = sequences;
  for (auto& ids : cut) ids.resize(std::min<size_t>(ids.size(), 128));
  EXPECT_NEAR(all.by_position[0].nll, evaluate(*decoder, cut).nll, 1e-5);
}

TEST(Reach, PartsOfAStudent) {
  const auto student = stirred_decoder(far_config());
  const auto sequences = random_sequences({60, 48});
  const auto variants = parts_variants(*student);
  ASSERT_EQ(variants.size(), 5u);
  const double all = evaluate(*student, sequences).nll, window = nll_of(variants, "window", sequences), far = nll_of(variants, "far", sequences),
               none = nll_of(variants, "none", sequences);
  EXPECT_EQ(nll_of(variants, "all", sequences), all);
  Config without_far = student->config();
  without_far.far_features.clear();
  EXPECT_NEAR(window, evaluate(*with_mixers(*student, without_far), sequences).nll, 1e-6);
  for (const double one : {all, window, none}) EXPECT_GT(std::abs(far - one), 1e-4);
  EXPECT_GT(std::abs(none - window), 1e-4);

  // a far state of 2 heads, 8 features, 6 values and a sum: 448 bytes; a key 96
  const Config& wider = variants[2].decoder->config();
  EXPECT_EQ(variants[2].parts, "window+bytes");
  EXPECT_EQ(wider.windows, (std::vector<int64_t>{5 + 4, 12}));
  EXPECT_LE(variants[2].decoder->state_bytes(0), student->state_bytes(0));
}

TEST(Reach, WindowsLongerThanTheTextAreTheTeacher) {
  const auto teacher = tiny_decoder(MixerKind::softmax);
  Config config = tiny_config(MixerKind::window);
  config.windows = {80, 90};
  const auto student = with_mixers(*teacher, config);
  const auto sequences = random_sequences({60, 33});
  const auto variants = parts_variants(*student);
  EXPECT_EQ(variants.size(), 3u);
  const double taught = evaluate(*teacher, sequences).nll;
  EXPECT_NEAR(nll_of(variants, "all", sequences), taught, 1e-5);
  EXPECT_NEAR(nll_of(variants, "window", sequences), taught, 1e-5);
  EXPECT_GT(std::abs(nll_of(variants, "none", sequences) - taught), 1e-4);
}

TEST(Reach, PartsOfQuantizedWeights) {
  const auto student = stirred_decoder(block_config({"window_far", MixerKind::window, [](Config& c) { c.far_features = {8, 4}; }}));
  quantize(*student, Dtype::q8_0);
  const auto sequences = random_sequences({60});
  const auto variants = parts_variants(*student);
  EXPECT_EQ(nll_of(variants, "all", sequences), evaluate(*student, sequences).nll);
  EXPECT_GT(nll_of(variants, "window+bytes", sequences), 0);
}

TEST(Reach, AModelWithoutWindowLayersHasNoParts) {
  const auto decoder = tiny_decoder(MixerKind::softmax);
  EXPECT_NE(complaint_of([&] { parts_variants(*decoder); }).find("has no window layers"), std::string::npos);
}

TEST_F(CliTest, EvalByMixerParts) {
  const Outcome made = supra_run({"linearize", at("teacher"), "-o", at("windows"), "--mixer", "window", "--window", "8", "--sinks", "2",
                                  "--far-features", "4"});
  ASSERT_EQ(made.code, 0) << made.err;
  const Json parts = expect_json(supra_run({"eval", at("windows"), "--mixer-parts", at("text.txt"), "--docs", "<end>", "--max-tokens", "900",
                                            "--teacher", at("teacher"), "--json"}),
                                 {"rows", "tokens", "context"});
  std::vector<std::string> names;
  for (const Json& row : parts.at("rows").as_array()) {
    names.push_back(row.text("parts"));
    const Json& band = row.at("by_position").as_array()[0];
    EXPECT_EQ(band.integer("from"), 0);
    EXPECT_EQ(band.integer("to"), 128);
    EXPECT_EQ(band.integer("tokens"), parts.integer("tokens"));
    EXPECT_NEAR(band.number("nll"), row.number("nll"), 1e-6);
  }
  EXPECT_EQ(names, (std::vector<std::string>{"teacher", "all", "window", "window+bytes", "far", "none"}));
  const Outcome table = supra_run({"eval", at("windows"), "--mixer-parts", at("text.txt"), "--context", "8", "--max-tokens", "99"});
  EXPECT_SAYS(table.out, "window+bytes");
  EXPECT_SAYS(table.err, "the longest window has 8 keys");
  expect_error(supra_run({"eval", at("teacher"), "--mixer-parts", at("text.txt")}), {"has no window layers", "--mixer window"});

  EXPECT_EQ(supra_run({"eval", at("windows"), "--text", at("text.txt"), "--teacher", at("teacher")}).code, 2);
}

}  // namespace
}  // namespace supra
