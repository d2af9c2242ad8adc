#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <sstream>

#include "supra/evaluation/choices.h"
#include "supra/evaluation/perplexity.h"
#include "supra/evaluation/tasks.h"
#include "supra/formats/parse/json.h"
#include "tests/fuzz_formats.h"
#include "tests/smollm2.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

class Eval : public testing::Test {
 protected:
  std::vector<Task> read(const std::string& name, const std::string& text, const Path& shots = "") {
    write_bytes(folder_.path() / name, text);
    return read_tasks(folder_.path() / name, shots);
  }
  std::string complaint(const std::string& name, const std::string& text) {
    return complaint_of([&] { read(name, text); });
  }
  TempDir folder_;
};

// A sample lies evenly over the text, is the same every time, and has about the size that was asked for.
TEST(Perplexity, SamplesLieEvenlyOverTheText) {
  std::vector<std::vector<int32_t>> sequences;
  Philox random(4);
  for (int32_t i = 0; i < 1000; i++) sequences.push_back(std::vector<int32_t>(1 + random.below(100), i));
  const int64_t all = predicted_tokens(sequences);
  for (const int64_t tokens : {1, 500, 5'000, 25'000, 49'000}) {
    const auto sample = spread_sample(sequences, tokens);
    EXPECT_EQ(sample, spread_sample(sequences, tokens));
    EXPECT_NEAR(static_cast<double>(predicted_tokens(sample)), static_cast<double>(tokens), 100);
    ASSERT_FALSE(sample.empty());
    if (tokens < 5'000) continue;
    // each tenth of the text has its tenth of the sample
    std::vector<double> tenths(10);
    for (const auto& ids : sample) tenths[ids[0] / 100] += static_cast<double>(ids.size() - 1);
    for (int i = 0; i < 10; i++) {
      const int64_t there = predicted_tokens({sequences.begin() + 100 * i, sequences.begin() + 100 * (i + 1)});
      EXPECT_NEAR(tenths[i], static_cast<double>(there * tokens) / static_cast<double>(all), 150) << tokens << " " << i;
    }
  }
  EXPECT_EQ(predicted_tokens(spread_sample(sequences, all)), all);
}

// The same by the definition: each sequence alone, whole, all logits.
Score by_definition(const Decoder& decoder, const Request& request) {
  NoGrad off;
  const int64_t T = static_cast<int64_t>(request.ids.size()) - 1, O = decoder.config().vocab;
  const Tensor tokens = Tensor::of(std::vector<int32_t>(request.ids.begin(), request.ids.end() - 1), {1, T});
  const Tensor logits = decoder.logits(decoder.hidden(tokens)).value().to(Dtype::f64);
  Score score;
  for (int64_t t = T - request.scored; t < T; t++) {
    const double* x = logits.data<double>() + t * O;
    double sum = 0;
    for (int64_t o = 0; o < O; o++) sum += std::exp(x[o]);
    score.loglik += x[request.ids[t + 1]] - std::log(sum);
    score.greedy = score.greedy && std::max_element(x, x + O) - x == request.ids[t + 1];
  }
  return score;
}

TEST_F(Eval, SharedStatesGiveWhatEachSequenceGivesAlone) {
  Philox random(7);
  std::vector<std::vector<Request>> items;
  // contexts of all lengths, some shared by the item's requests and some not, continuations of one to five ids
  for (int item = 0; item < 23; item++) {
    std::vector<int32_t> context(1 + random.uniform() * 40);
    for (int32_t& id : context) id = static_cast<int32_t>(random.uniform() * 61);
    items.emplace_back();
    for (int choice = 0; choice < 2 + item % 3; choice++) {
      Request request{context, 1 + choice};
      if (item % 5 == 4) request.ids.back() = choice;
      for (int i = 0; i <= choice; i++) request.ids.push_back(static_cast<int32_t>(random.uniform() * 61));
      items.back().push_back(request);
    }
  }
  for (MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    const auto decoder = tiny_decoder(mixer);
    const auto scores = score_requests(*decoder, items);
    ASSERT_EQ(scores.size(), items.size());
    for (size_t i = 0; i < items.size(); i++) {
      ASSERT_EQ(scores[i].size(), items[i].size());
      for (size_t k = 0; k < items[i].size(); k++) {
        const Score alone = by_definition(*decoder, items[i][k]);
        EXPECT_NEAR(scores[i][k].loglik, alone.loglik, 1e-4) << i << " " << k;
        EXPECT_EQ(scores[i][k].greedy, alone.greedy) << i << " " << k;
      }
    }
  }
}

TEST_F(Eval, WhiteSpaceMovesToTheContinuation) {
  const auto bytes = load_tokenizer("bytes");
  const Request request = encode_request(*bytes, "ab \n", "c", false);
  EXPECT_EQ(request.ids, (std::vector<int32_t>{'a', 'b', ' ', '\n', 'c'}));
  EXPECT_EQ(request.scored, 3);
  // something has to stand before the first id
  const Request first = encode_request(*bytes, "", "c", false);
  EXPECT_EQ(first.ids.size(), 2u);
  EXPECT_EQ(first.scored, 1);
}

TEST_F(Eval, TheKeysTellTheKind) {
  const Task choices = read("a.jsonl", R"({"query": "one\n", "choices": ["x", "yé"], "gold": 1})"
                                       "\n\n"
                                       R"({"query": "two", "choices": ["z"], "gold": 0})")[0];
  EXPECT_EQ(choices.kind, TaskKind::choices);
  ASSERT_EQ(choices.items.size(), 2u);
  EXPECT_EQ(choices.items[0].gold, 1);
  EXPECT_EQ(choices.items[0].candidates[1].continuation, "yé");
  EXPECT_EQ(choices.items[0].candidates[1].characters, 2);
  EXPECT_EQ(choices.items[1].candidates[0].continuation, " z");
  const Task schema = read("b.jsonl", R"({"context_options": ["p", "q"], "continuation": "r", "gold": 0})")[0];
  EXPECT_EQ(schema.kind, TaskKind::schema);
  EXPECT_EQ(schema.items[0].candidates[1].context, "q");
  EXPECT_EQ(read("c.jsonl", R"({"context": "p", "continuation": "r"})")[0].kind, TaskKind::last_word);
}

TEST_F(Eval, FiveShotMmlu) {
  const std::string header = "question,choice0,choice1,choice2,choice3,answer\n";
  write_bytes(folder_.path() / "world_facts_dev.csv", header + "\"Is \"\"it\"\",\nso?\",w,x,\"y, y\",z,2\n");
  const Task task = read("world_facts_test.csv", header + "Q,a,b,c,d,3\n", folder_.path() / "world_facts_dev.csv")[0];
  EXPECT_EQ(task.kind, TaskKind::mmlu);
  ASSERT_EQ(task.items.size(), 1u);
  EXPECT_EQ(task.items[0].gold, 3);
  EXPECT_EQ(task.prompt + task.items[0].candidates[0].context,
            "The following are multiple choice questions (with answers) about world facts.\n\n"
            "Is \"it\",\nso?\nA. w\nB. x\nC. y, y\nD. z\nAnswer: C\n\n"
            "Q\nA. a\nB. b\nC. c\nD. d\nAnswer:");
  EXPECT_EQ(task.items[0].candidates[3].continuation, " D");
}

TEST_F(Eval, MmluWithoutItsWorkedExamplesIsRefusedUnlessNoneAreWanted) {
  const std::string text = "question,choice0,choice1,choice2,choice3,answer\nQ,a,b,c,d,3\n";
  std::filesystem::create_directory(folder_.path() / "test");
  EXPECT_NE(complaint("test/law_test.csv", text).find("law_dev.csv: does not exist"), std::string::npos);
  const Task task = read("test/law_test.csv", text, "0")[0];
  EXPECT_EQ(task.shots, 0);
  EXPECT_EQ(task.prompt, "The following are multiple choice questions (with answers) about law.\n\n");
  EXPECT_EQ(read("a.jsonl", R"({"context": "p", "continuation": "r"})", "0")[0].prompt, "");
}

TEST_F(Eval, TakesNoContextOf131072TokensAtOnce) {
  Config config = tiny_config(MixerKind::supra);
  for (const auto& [context, expected] : {std::pair(131072, 2048), {512, 512}, {0, 2048}}) {
    config.context = context;
    EXPECT_EQ(default_context(config), expected);
  }
}

TEST_F(Eval, WhatCannotBeScoredIsRefusedByName) {
  EXPECT_NE(complaint("a.jsonl.gz", "\x1f\x8b\x08 and so on").find("is compressed by gzip"), std::string::npos);
  // in a folder too: a csv of it would be missed without a word
  std::filesystem::create_directory(folder_.path() / "tasks");
  write_bytes(folder_.path() / "tasks/a.csv.gz", "\x1f\x8b\x08 and so on");
  EXPECT_NE(complaint_of([&] { read_tasks(folder_.path() / "tasks", ""); }).find("a.csv.gz: is compressed by gzip"), std::string::npos);
  EXPECT_NE(complaint("a.jsonl", R"({"query": "q", "choices": ["x"], "gold": 1})").find("gold"), std::string::npos);
  EXPECT_NE(complaint("a.jsonl", R"({"query": "q", "choices": [], "gold": 0})").find("a.jsonl"), std::string::npos);
  EXPECT_NE(complaint("a.jsonl", "").find("a.jsonl"), std::string::npos);
  EXPECT_NE(complaint("a.csv", "question,choice0\n").find("a.csv"), std::string::npos);
  EXPECT_NE(complaint("a.csv", "question,choice0,choice1,choice2,choice3,answer\nq,a,b,c,d,4\n").find("a.csv"), std::string::npos);
  EXPECT_NE(complaint("a.csv", "question,choice0,choice1,choice2,choice3,answer\n\"q,a,b,c,d,1\n").find("a.csv"), std::string::npos);
}

// The log-likelihoods and predictions of transformers, on the first items of each task.
TEST_F(Eval, SmolLm2ChoosesAsTransformersDoes) {
  SKIP_WITHOUT_SMOLLM2();
  const Path golden = shared_dir() / "golden/smollm2";
  SKIP_WITHOUT(golden);
  const size_t kItems = 4;
  std::map<std::string, std::vector<Json>> rows;
  for (const char* file : {"mc.jsonl", "lambada.jsonl"}) {
    std::istringstream lines(read_file(golden / file));
    for (std::string line; std::getline(lines, line);) {
      const Json row = Json::parse(line, file);
      std::vector<Json>& of_task = rows[row.text("task")];
      if (of_task.size() < kItems) of_task.push_back(row);
    }
  }
  ASSERT_EQ(rows.size(), 6u);
  const Model model = load_model(smollm2(), "", Weights::stored);
  for (const auto& [name, known] : rows) {
    Task task = read_tasks(shared_dir() / "eval" / (name + ".jsonl"), "")[0];
    cut_task(task, 0, kItems);
    const auto requests = encode_task(tokenizer_of(model), task, false);
    const auto scores = score_requests(*model.decoder, requests);
    for (size_t i = 0; i < kItems; i++) {
      SCOPED_TRACE(format("%s %zu", name.c_str(), i));
      const Prediction chosen = predict(task, i, scores[i]);
      if (task.kind == TaskKind::last_word) {
        // as stored: 16 bits of an activation
        EXPECT_NEAR(scores[i][0].loglik, known[i].number("loglik"), 5e-3);
        EXPECT_EQ(chosen.sum == 0, known[i].flag("greedy", false));
        continue;
      }
      const Json::Array& logliks = known[i].at("loglik").as_array("loglik");
      const Json::Array& tokens = known[i].at("tokens").as_array("tokens");
      for (size_t k = 0; k < logliks.size(); k++) {
        EXPECT_NEAR(scores[i][k].loglik, logliks[k].as_number("loglik"), 5e-3);
        EXPECT_EQ(requests[i][k].scored, tokens[k].as_integer("tokens"));
      }
      EXPECT_EQ(chosen.sum, known[i].integer("pred_sum"));
      EXPECT_EQ(chosen.normalised, known[i].integer("pred_per_char"));
    }
  }
}

}  // namespace
}  // namespace supra
