#include <gtest/gtest.h>

#include <set>

#include "supra/evaluation/planted_facts.h"
#include "supra/inference/session.h"
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

// In the order of plant_facts().
enum { kOne, kAmong, kSpan };

// What a text of byte ids says behind `told`, so many bytes of it.
std::string told_at(const DistanceProbe& probe, const Ask& ask, size_t size) {
  return bytes().decode(probe.text).substr(static_cast<size_t>(ask.told), size);
}

TEST(PlantedFacts, StandAtTheirDistance) {
  const std::vector<int64_t> distances = {150, 300};
  const std::vector<DistanceProbe> probes = plant_facts(bytes(), filler(500), distances, {.items = 5});
  ASSERT_EQ(probes.size(), 5u);
  for (const DistanceProbe& probe : probes) {
    ASSERT_EQ(probe.asks.size(), 3u);
    const std::string whole = bytes().decode(probe.text);
    EXPECT_EQ(whole.find("\n\nThe "), 32u);
    for (const Ask& ask : probe.asks) {
      const std::string ending = bytes().decode(ask.endings[0]), question = bytes().decode(ask.question);
      EXPECT_EQ(told_at(probe, ask, ending.size()), ending);
      for (const int64_t distance : distances) {
        const Request request = request_at(probe, ask, distance, 0);
        const std::string text = bytes().decode(request.ids);
        EXPECT_EQ(static_cast<int64_t>(request.ids.size()) - request.scored, ask.told + distance);
        EXPECT_TRUE(text.ends_with(question + ending));
      }
    }
    const Ask &one = probe.asks[kOne], &span = probe.asks[kSpan];
    EXPECT_EQ(whole.substr(static_cast<size_t>(one.told) + 5, 3), ".\n\n");
    EXPECT_EQ(span.told, one.told + 8);
    EXPECT_EQ(span.endings[0].size(), 64u);
    for (const size_t ask : {kOne, kAmong}) {
      const auto& endings = probe.asks[ask].endings;
      ASSERT_EQ(endings.size(), 20u);
      EXPECT_EQ(std::set(endings.begin(), endings.end()).size(), 20u);
      // those behind the facts of its kind were never told
      for (size_t i = 0; i < endings.size(); i++) {
        EXPECT_EQ(endings[i].size(), 5u);
        EXPECT_EQ(whole.find(bytes().decode(endings[i]) + ".") != std::string::npos, i < (ask == kOne ? 1 : 4)) << i;
      }
    }
    EXPECT_EQ(positions_at(probes, 300) - positions_at(probes, 150), 150);
  }
}

TEST(PlantedFacts, OneAmongSeveral) {
  for (const int64_t nearest : {90, 300}) {
    std::set<int64_t> followers;
    for (const DistanceProbe& probe : plant_facts(bytes(), filler(900), {nearest, 700}, {.items = 40})) {
      const std::string text = bytes().decode(probe.text);
      std::set<std::string> names, things;
      for (size_t at = text.find("\n\nThe "); at != std::string::npos; at = text.find("\n\nThe ", at + 1)) {
        const size_t of = text.find(" of ", at);
        things.insert(text.substr(at + 6, of - at - 6));
        names.insert(text.substr(of + 4, text.find(' ', of + 4) - of - 4));
      }
      EXPECT_EQ(names.size(), 5u);
      EXPECT_EQ(things.size(), 2u);
      const int64_t from = probe.asks[kAmong].told, to = probe.asks[kOne].told;
      followers.insert(std::count(text.begin() + from, text.begin() + to, '.') - 1);
    }
    // where there is room, the one that is asked for may be any of them
    EXPECT_EQ(followers, nearest == 90 ? (std::set<int64_t>{0}) : (std::set<int64_t>{0, 1, 2, 3}));
  }
}

TEST(PlantedFacts, WhatDoesNotFitIsRefusedByName) {
  const FactOptions options = {.filler_name = "story.txt"};
  EXPECT_NE(complaint_of([&] { plant_facts(bytes(), filler(400), {20}, options); }).find("larger distance"), std::string::npos);
  const std::string complaint = complaint_of([&] { plant_facts(bytes(), filler(400), {900}, options); });
  EXPECT_NE(complaint.find("story.txt: has 400 tokens"), std::string::npos) << complaint;
  EXPECT_NE(complaint.find("longer text"), std::string::npos) << complaint;
  EXPECT_NE(complaint_of([&] { plant_facts(bytes(), filler(400), {100}, {.facts = 16}); }).find("16 names"), std::string::npos);
}

TEST(PlantedFacts, AreTheSameForASeed) {
  const auto text = [](uint64_t seed) { return plant_facts(bytes(), filler(400), {100}, {.items = 2, .seed = seed})[1].text; };
  EXPECT_EQ(text(4), text(4));
  EXPECT_NE(text(4), text(5));
}

// Reading on from distance to distance and answering by branches of the state is the same as reading each text alone.
TEST(PlantedFacts, SharedStatesGiveWhatEachTextGivesAlone) {
  const std::vector<int64_t> distances = {90, 100, 200};
  const std::vector<DistanceProbe> probes = plant_facts(bytes(), filler(400), distances, {.items = 3, .alternatives = 5});
  for (const MixerKind kind : {MixerKind::softmax, MixerKind::supra, MixerKind::window}) {
    const Model model = byte_model(kind);
    int64_t done = 0, total = 0, asked = 0;
    const auto on_scores = [&](size_t p, size_t a, size_t d, const std::vector<Score>& shared) {
      const Ask& ask = probes[p].asks[a];
      ASSERT_EQ(shared.size(), ask.endings.size());
      asked++;
      for (size_t e = 0; e < shared.size(); e++) {
        const Score alone = score_requests(*model.decoder, {{request_at(probes[p], ask, distances[d], e)}})[0][0];
        EXPECT_NEAR(shared[e].loglik, alone.loglik, 1e-3);
        EXPECT_EQ(shared[e].greedy, alone.greedy);
      }
    };
    score_at_distances(*model.decoder, probes, distances, on_scores, [&](int64_t now, int64_t all) { done = now, total = all; });
    EXPECT_EQ(asked, 3 * 3 * 3);
    EXPECT_EQ(done, total);
  }
}

// A long past is not copied: requests go on from it one after the other, and it stays as it is.
TEST(PlantedFacts, RequestsThatShareAStateScoreAsCopiesDo) {
  NoGrad off;
  const std::vector<int64_t> distances = {200};
  const auto probes = plant_facts(bytes(), filler(400), distances, {.items = 2, .alternatives = 5});
  for (const MixerKind kind : {MixerKind::softmax, MixerKind::supra, MixerKind::window}) {
    const Model model = byte_model(kind);
    std::vector<Request> requests;
    std::vector<const Request*> wanted;
    std::vector<int64_t> row_of;
    std::vector<std::vector<int32_t>> read;
    for (size_t p = 0; p < 2; p++) {
      for (size_t e = 0; e < 5; e++) {
        requests.push_back(request_at(probes[p], probes[p].asks[kOne], 200, e));
        row_of.push_back(static_cast<int64_t>(p));
      }
      read.push_back({requests.back().ids.begin(), requests.back().ids.begin() + 150});
    }
    for (const Request& request : requests) wanted.push_back(&request);
    Session past(*model.decoder, 2);
    past.feed(read);
    const std::vector<Score> copied = score_onwards(*model.decoder, past.state(), row_of, wanted);
    for (int repeat = 0; repeat < 2; repeat++) {
      const std::vector<Score> shared = score_onwards(*model.decoder, past.state(), row_of, wanted, 1);
      for (size_t r = 0; r < requests.size(); r++) EXPECT_NEAR(shared[r].loglik, copied[r].loglik, 1e-3);
    }
  }
}

// A model that was told nothing knows nothing: all alternatives alike is no recall.
TEST(PlantedFacts, ADeadModelRecallsNothing) {
  const Model model = byte_model(MixerKind::supra);
  model.decoder->visit([](const std::string&, Var& parameter) { parameter.value().fill(0); });
  const RecallAt recall = recall_facts(*model.decoder, plant_facts(bytes(), filler(400), {90}, {.items = 3}), {90})[0];
  for (const FactRecall& facts : {recall.one, recall.among}) {
    EXPECT_EQ(facts.accuracy.mean(), 0);
    EXPECT_EQ(facts.rank.mean(), 20);
    EXPECT_NEAR(facts.probability.mean(), .05, 1e-6);
  }
  EXPECT_NEAR(recall.again.gain.mean(), 0, 1e-6);
}

// Nothing is asked before it was told, and before the text goes on.
TEST(PlantedFacts, AShortDistanceAsksWhatItCan) {
  const Model model = byte_model(MixerKind::supra);
  const auto rows = recall_facts(*model.decoder, plant_facts(bytes(), filler(400), {64, 90}, {.items = 2, .span = 70}), {64, 90});
  EXPECT_EQ(rows[0].one.accuracy.n, 2);
  EXPECT_EQ(rows[0].among.accuracy.n, 0);
  EXPECT_EQ(rows[0].again.gain.n, 0);
  for (const Mean& mean : {rows[1].one.accuracy, rows[1].among.accuracy, rows[1].again.gain}) EXPECT_EQ(mean.n, 2);
}

// Softmax attention that remembers finds every fact at every distance within its context, and whose it is.
TEST(Recall, AModelWithMemoryScoresHighAtEveryDistance) {
  const Model model = induction_model();
  EXPECT_EQ(doubling_distances(1024), (std::vector<int64_t>{64, 128, 256, 512, 1024}));
  const std::vector<int64_t> distances = {90, 128, 256, 512, 1024};
  for (const RecallAt& at : recall_facts(*model.decoder, plant_facts(bytes(), filler(3000), distances, {.items = 5}), distances)) {
    for (const FactRecall& facts : {at.one, at.among}) {
      SCOPED_TRACE(format("at %ld", static_cast<long>(at.distance)));
      EXPECT_EQ(facts.accuracy.n, 5);
      EXPECT_GE(facts.accuracy.mean(), .8);
      EXPECT_LE(facts.rank.mean(), 1.5);
      EXPECT_GE(facts.probability.mean(), .8);
      EXPECT_GE(facts.greedy.mean(), .8);
    }
    EXPECT_GT(at.again.gain.mean(), 4) << at.distance;
    EXPECT_GT(at.again.gain.mean(), 10 * at.again.gain.error()) << at.distance;
    EXPECT_NEAR(at.again.first.mean() - at.again.second.mean(), at.again.gain.mean(), 1e-6);
  }
}

// The same weights behind a window of 16 tokens: chance at every distance, for all of them are beyond it.
TEST(Recall, AModelWithoutMemoryScoresChanceBeyondItsWindow) {
  const Model model = induction_model(16);
  const std::vector<int64_t> distances = {90, 128, 256};
  for (const RecallAt& at : recall_facts(*model.decoder, plant_facts(bytes(), filler(600), distances, {.items = 60}), distances)) {
    for (const FactRecall& facts : {at.one, at.among}) {
      const std::string what = format("%s at %ld", &facts == &at.one ? "one" : "among", static_cast<long>(at.distance));
      expect_within(facts.accuracy, .05, 4, what);
      expect_within(facts.rank, 10.5, 4, what);
      expect_within(facts.probability, .05, 4, what);
      EXPECT_EQ(facts.greedy.mean(), 0) << what;
    }
    expect_within(at.again.gain, 0, 4, format("repetition at %ld", static_cast<long>(at.distance)));
  }
}

// A real teacher finds facts within its context.
TEST(Recall, SmolLm2RemembersWithinItsContext) {
  SKIP_WITHOUT_SMOLLM2();
  const Path text = shared_dir() / "data/wikitext-2/valid.txt";
  SKIP_WITHOUT(text);
  const Model model = load_model(smollm2(), "", Weights::stored);
  const std::vector<int32_t> ids = tokenizer_of(model).encode(read_file(text).substr(0, 20'000));
  const RecallAt recall = recall_facts(*model.decoder, plant_facts(tokenizer_of(model), ids, {300}, {.items = 3}), {300})[0];
  EXPECT_GE(recall.one.accuracy.mean(), .6);
  EXPECT_LE(recall.one.rank.mean(), 3);
  EXPECT_GT(recall.again.gain.mean(), 1);
}

TEST_F(CliTest, EvalByRecall) {
  const Outcome made = supra_run({"linearize", at("teacher"), "-o", at("windows"), "--mixer", "window", "--window", "8", "--sinks", "2",
                                  "--far-features", "4"});
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_SAYS(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "90", "--items", "1"}).out, "window ");
  const Json report = expect_json(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "60,90", "--items", "2", "--json"}),
                                  {"recall", "recall_among", "repetition", "rows", "items", "seed"});
  for (const char* key : {"recall", "recall_among"}) {
    const Json& last = report.at(key).as_array().back();
    EXPECT_EQ(last.integer("distance"), 90);
    EXPECT_GE(last.number("rank"), 1);
    for (const char* figure : {"accuracy", "stderr", "rank_stderr", "probability", "greedy"}) EXPECT_GE(last.number(figure), 0);
  }
  // a span of 64 tokens does not occur again 60 tokens behind
  ASSERT_EQ(report.at("repetition").as_array().size(), 1u);
  EXPECT_GT(report.at("repetition").as_array()[0].number("second"), 0);
  EXPECT_EQ(report.at("rows").as_array().size(), 2u);
  expect_error(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "90", "--teacher", at("teacher")}),
               {"has only 64 positions"});
  expect_error(supra_run({"eval", at("windows"), "--recall", at("text.txt"), "--distances", "9000000"}), {at("text.txt") + ": has ", "longer text"});
}

}  // namespace
}  // namespace supra
