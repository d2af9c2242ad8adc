#include <gtest/gtest.h>

#include <set>

#include "supra/evaluation/planted_facts.h"
#include "supra/evaluation/repetition.h"
#include "tests/cli.h"
#include "tests/induction_model.h"
#include "tests/smollm2.h"
#include "tests/tiny_model.h"

// Recall by distance: planted facts and repeated spans, judged by models that are known to remember or to forget.

namespace supra {
namespace {

const Tokenizer& bytes() {
  static const auto tokenizer = load_tokenizer("bytes");
  return *tokenizer;
}

std::vector<int32_t> filler(int64_t size) { return bytes().encode(random_words(size)); }

void expect_within(const Mean& mean, double expected, double errors, const std::string& what) {
  EXPECT_NEAR(mean.mean(), expected, errors * mean.error() + 1e-9) << what;
}

TEST(PlantedFacts, StandAtTheirDistance) {
  const std::vector<int64_t> distances = {64, 300};
  const std::vector<DistanceProbe> probes = plant_facts(bytes(), filler(400), distances, {.items = 5});
  ASSERT_EQ(probes.size(), 5u);
  for (const DistanceProbe& probe : probes) {
    for (const int64_t distance : distances) {
      const std::string text = bytes().decode(request_at(probe, distance, 0).ids), number = text.substr(text.size() - 5);
      const size_t told = text.find(number), asked = text.rfind(number);
      EXPECT_EQ(static_cast<int64_t>(asked - told), distance);
      EXPECT_EQ(text.find("\n\nThe "), 32u);
      EXPECT_EQ(text.substr(told + 5, 3), ".\n\n");
      ASSERT_EQ(probe.endings.size(), 20u);
      EXPECT_EQ(std::set(probe.endings.begin(), probe.endings.end()).size(), 20u);
      for (size_t i = 1; i < probe.endings.size(); i++) {
        EXPECT_EQ(probe.endings[i].size(), 5u);
        EXPECT_EQ(text.find(bytes().decode(probe.endings[i])), std::string::npos);
      }
    }
    EXPECT_EQ(positions_at(probes, 300) - positions_at(probes, 64), 300 - 64);
  }
}

TEST(PlantedFacts, OneAmongSeveral) {
  for (const int64_t nearest : {50, 200}) {
    std::set<int64_t> followers;
    const auto probes = plant_facts(bytes(), filler(900), {nearest, 700}, {.items = 40, .facts = 4});
    for (const DistanceProbe& probe : probes) {
      const Request request = request_at(probe, 700, 0);
      const std::string text = bytes().decode(request.ids);
      EXPECT_EQ(static_cast<int64_t>(request.ids.size()) - request.scored - 700, probe.told);
      EXPECT_EQ(text.substr(static_cast<size_t>(probe.told), 5), bytes().decode(probe.endings[0]));
      // the first four alternatives were told, under four names, and the others were not
      for (size_t i = 0; i < probe.endings.size(); i++)
        EXPECT_EQ(text.find(bytes().decode(probe.endings[i]) + ".") != std::string::npos, i < 4) << i;
      std::set<std::string> names;
      for (size_t at = text.find(" of "); at != std::string::npos; at = text.find(" of ", at + 1))
        names.insert(text.substr(at + 4, text.find(' ', at + 4) - at - 4));
      EXPECT_EQ(names.size(), 4u);
      followers.insert(std::count(text.begin() + probe.told, text.end(), '.') - 1);
    }
    // where there is room, the one that is asked for may be any of them
    EXPECT_EQ(followers, nearest == 50 ? (std::set<int64_t>{0}) : (std::set<int64_t>{0, 1, 2, 3}));
  }
}

TEST(PlantedFacts, WhatDoesNotFitIsRefusedByName) {
  const FactOptions options = {.filler_name = "story.txt"};
  EXPECT_NE(complaint_of([&] { plant_facts(bytes(), filler(400), {20}, options); }).find("larger distance"), std::string::npos);
  const std::string complaint = complaint_of([&] { plant_facts(bytes(), filler(400), {900}, options); });
  EXPECT_NE(complaint.find("story.txt: has 400 tokens"), std::string::npos) << complaint;
  EXPECT_NE(complaint.find("longer text"), std::string::npos) << complaint;
  EXPECT_NE(complaint_of([&] { plant_facts(bytes(), filler(400), {100}, {.facts = 17}); }).find("16 names"), std::string::npos);
  const std::string repeated = complaint_of([&] { repeat_spans(bytes(), filler(400), {64, 512}, {.text_name = "story.txt"}); });
  EXPECT_NE(repeated.find("story.txt: has 400 tokens"), std::string::npos) << repeated;
  EXPECT_NE(complaint_of([&] { repeat_spans(bytes(), filler(400), {32}, {}); }).find("a span has 64"), std::string::npos);
}

TEST(PlantedFacts, AreTheSameForASeed) {
  const auto text = [](uint64_t seed) { return plant_facts(bytes(), filler(400), {100}, {.items = 2, .seed = seed})[1].text; };
  EXPECT_EQ(text(4), text(4));
  EXPECT_NE(text(4), text(5));
}

// Reading on from distance to distance and answering by copies of the state is the same as reading each text alone.
TEST(PlantedFacts, SharedStatesGiveWhatEachTextGivesAlone) {
  const std::vector<int64_t> distances = {64, 100, 200};
  std::vector<DistanceProbe> probes = plant_facts(bytes(), filler(400), distances, {.items = 6, .alternatives = 3});
  const auto spans = repeat_spans(bytes(), filler(400), distances, {.items = 3});
  probes.insert(probes.end(), spans.begin(), spans.end());
  for (const MixerKind kind : {MixerKind::softmax, MixerKind::supra, MixerKind::window}) {
    const Model model = byte_model(kind);
    int64_t done = 0, total = 0;
    const auto shared = score_at_distances(*model.decoder, probes, distances, [&](int64_t now, int64_t all) { done = now, total = all; });
    EXPECT_EQ(done, total);
    for (size_t d = 0; d < distances.size(); d++) {
      for (size_t p = 0; p < probes.size(); p++) {
        ASSERT_EQ(shared[d][p].size(), probes[p].endings.size());
        for (size_t e = 0; e < probes[p].endings.size(); e++) {
          const Score alone = score_requests(*model.decoder, {{request_at(probes[p], distances[d], e)}})[0][0];
          EXPECT_NEAR(shared[d][p][e].loglik, alone.loglik, 1e-3);
          EXPECT_EQ(shared[d][p][e].greedy, alone.greedy);
        }
      }
    }
  }
}

// A model that was told nothing knows nothing: all alternatives alike is no recall.
TEST(PlantedFacts, ADeadModelRecallsNothing) {
  const Model model = byte_model(MixerKind::supra);
  model.decoder->visit([](const std::string&, Var& parameter) { parameter.value().fill(0); });
  const FactRecall recall = recall_facts(*model.decoder, plant_facts(bytes(), filler(400), {64}, {.items = 3}), {64})[0];
  EXPECT_EQ(recall.accuracy.mean(), 0);
  EXPECT_EQ(recall.rank.mean(), 20);
  EXPECT_NEAR(recall.probability.mean(), .05, 1e-6);
}

// Softmax attention that remembers finds every fact at every distance within its context, and whose it is.
TEST(Recall, AModelWithMemoryScoresHighAtEveryDistance) {
  const Model model = induction_model();
  const std::vector<int64_t> distances = doubling_distances(1024);
  EXPECT_EQ(distances, (std::vector<int64_t>{64, 128, 256, 512, 1024}));
  for (const int64_t facts : {1, 4}) {
    const auto probes = plant_facts(bytes(), filler(3000), distances, {.items = 5, .facts = facts});
    for (const FactRecall& at : recall_facts(*model.decoder, probes, distances)) {
      SCOPED_TRACE(format("%ld facts at %ld", static_cast<long>(facts), static_cast<long>(at.distance)));
      EXPECT_EQ(at.accuracy.n, 5);
      EXPECT_GE(at.accuracy.mean(), .8);
      EXPECT_LE(at.rank.mean(), 1.5);
      EXPECT_GE(at.probability.mean(), .8);
      EXPECT_GE(at.greedy.mean(), .8);
    }
  }
  const auto spans = repeat_spans(bytes(), filler(3000), distances, {.items = 5});
  for (const Repetition& at : measure_repetition(*model.decoder, spans, distances)) {
    EXPECT_GT(at.gain.mean(), 4) << at.distance;
    EXPECT_GT(at.gain.mean(), 10 * at.gain.error()) << at.distance;
    EXPECT_NEAR(at.first.mean() - at.second.mean(), at.gain.mean(), 1e-6);
  }
}

// The same weights behind a window of 16 tokens: chance at every distance, for all of them are beyond it.
TEST(Recall, AModelWithoutMemoryScoresChanceBeyondItsWindow) {
  const Model model = induction_model(16);
  const std::vector<int64_t> distances = {64, 128, 256};
  for (const int64_t facts : {1, 4}) {
    const auto probes = plant_facts(bytes(), filler(600), distances, {.items = 60, .facts = facts});
    for (const FactRecall& at : recall_facts(*model.decoder, probes, distances)) {
      const std::string what = format("%ld facts at %ld", static_cast<long>(facts), static_cast<long>(at.distance));
      expect_within(at.accuracy, .05, 4, what);
      expect_within(at.rank, 10.5, 4, what);
      expect_within(at.probability, .05, 4, what);
      EXPECT_EQ(at.greedy.mean(), 0) << what;
    }
  }
  const auto spans = repeat_spans(bytes(), filler(600), distances, {.items = 40});
  for (const Repetition& at : measure_repetition(*model.decoder, spans, distances))
    expect_within(at.gain, 0, 4, format("repetition at %ld", static_cast<long>(at.distance)));
}

// A real teacher finds facts within its context.
TEST(Recall, SmolLm2RemembersWithinItsContext) {
  SKIP_WITHOUT_SMOLLM2();
  const Path text = shared_dir() / "data/wikitext-2/valid.txt";
  SKIP_WITHOUT(text);
  const Model model = load_model(smollm2(), "", Weights::stored);
  const std::vector<int32_t> ids = tokenizer_of(model).encode(read_file(text).substr(0, 20'000));
  const std::vector<int64_t> distances = {300};
  const FactRecall recall = recall_facts(*model.decoder, plant_facts(tokenizer_of(model), ids, distances, {.items = 3}), distances)[0];
  EXPECT_GE(recall.accuracy.mean(), .6);
  EXPECT_LE(recall.rank.mean(), 3);
  const auto spans = repeat_spans(tokenizer_of(model), ids, distances, {.items = 3});
  EXPECT_GT(measure_repetition(*model.decoder, spans, distances)[0].gain.mean(), 1);
}

TEST_F(CliTest, EvalByRecall) {
  const Outcome made = supra_run({"linearize", at("teacher"), "-o", at("windows"), "--mixer", "window", "--window", "8", "--sinks", "2",
                                  "--far-features", "4"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_SAYS(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "50", "--items", "1"}).out, "window ");
  const Json report = expect_json(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "50,90", "--items", "2", "--json"}),
                                  {"recall", "recall_among", "repetition", "rows", "items", "seed"});
  for (const char* key : {"recall", "recall_among"}) {
    ASSERT_EQ(report.at(key).as_array().size(), 2u);
    const Json& last = report.at(key).as_array()[1];
    EXPECT_EQ(last.integer("distance"), 90);
    EXPECT_GE(last.number("rank"), 1);
    for (const char* figure : {"accuracy", "stderr", "rank_stderr", "probability", "greedy"}) EXPECT_GE(last.number(figure), 0);
  }
  // a span of 64 tokens does not occur again 50 tokens behind
  ASSERT_EQ(report.at("repetition").as_array().size(), 1u);
  EXPECT_GT(report.at("repetition").as_array()[0].number("second"), 0);
  EXPECT_EQ(report.at("rows").as_array().size(), 2u);
  expect_error(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "50", "--teacher", at("teacher")}),
               {"knows 64 positions"});
  expect_error(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "9000000"}), {at("text.txt") + ": has ", "longer text"});
}

}  // namespace
}  // namespace supra
