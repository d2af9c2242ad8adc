#include <gtest/gtest.h>

#include "supra/evaluation/position_bias.h"
#include "supra/evaluation/question_answering.h"
#include "tests/cli.h"
#include "tests/induction_model.h"
#include "tests/tiny_model.h"

// What a model answers: questions by writing, and choices under other letters.

namespace supra {
namespace {

const Tokenizer& bytes() {
  static const auto tokenizer = load_tokenizer("bytes");
  return *tokenizer;
}

Task questions(const std::vector<std::pair<std::string, std::string>>& asked) {
  Task task{"asked", TaskKind::questions, "", 0, {}};
  for (const auto& [context, answer] : asked) {
    TaskItem& item = task.items.emplace_back();
    item.candidates = {{context, " " + answer, 1}};
    item.answers = {answer};
  }
  return task;
}

TEST(Answers, AreNormalisedAsTriviaQaDoes) {
  const std::pair<const char*, const char*> cases[] = {
      {"The  Beatles!", "beatles"},
      {" an_Apple a day\n", "apple day"},
      {"Theatre of the absurd", "theatre of absurd"},
      {"R.E.M.", "r e m"},
      {"it\u2019s `so\u00b4", "it s so"},
      {"a-ha", "ha"},
      {"a\u2013b", "\u2013b"},  // an en dash is no punctuation to the script, but ends a word
      {"\u00c9MILE Zol\u00c0", "\u00e9mile zol\u00e0"},
      {"\u0141\u00f3d\u017a \u0160KODA", "\u0142\u00f3d\u017a \u0161koda"},
      {"\u041c\u043e\u0441\u043a\u0432\u0430 \u0391\u0398\u0397\u039d\u0391", "\u043c\u043e\u0441\u043a\u0432\u0430 \u03b1\u03b8\u03b7\u03bd\u03b1"},
      {"1,000 (the)", "1 000"},
      {"\u00a0x\u3000y", "x y"},
      {"A.", ""},
      {"", ""}};
  for (const auto& [text, normal] : cases) EXPECT_EQ(normalize_answer(text), normal) << text;
}

TEST(Answers, AreRightByAnyAlias) {
  EXPECT_TRUE(is_right_answer(" the onion", {"Leek", "Onion"}));
  EXPECT_FALSE(is_right_answer("onions", {"Leek", "Onion"}));
  EXPECT_FALSE(is_right_answer("The", {"a"}));
  EXPECT_FALSE(is_right_answer("", {""}));
}

// What stands in the prompt is copied, up to what ends an answer.
TEST(Answers, EndWhereTheTaskSays) {
  const Model model = induction_model();
  const std::string told = "Who lives in the red house?\nAnswer: Rosa Lux";
  for (const char* end : {"\n", ".", ", and others"}) {
    const std::string asked = told + end + " What else is new? Who lives in the red house?\nAnswer:";
    const QuestionAnswering result = answer_questions(*model.decoder, bytes(), questions({{asked, "rosa lux"}}), {});
    EXPECT_EQ(result.answers[0].text, "Rosa Lux") << end;
    EXPECT_TRUE(result.answers[0].right);
    EXPECT_EQ(result.accuracy.mean(), 1);
  }
  // a limit of tokens ends it too, and a wrong answer is wrong
  const Task task = questions({{told + ". Who lives in the red house?\nAnswer:", "Rosa Lux"}});
  const QuestionAnswering cut = answer_questions(*model.decoder, bytes(), task, {.tokens = 5});
  EXPECT_EQ(cut.answers[0].text, "Rosa");
  EXPECT_FALSE(cut.answers[0].right);
}

TEST(Answers, InABatchAreThoseOfEachAlone) {
  std::vector<std::pair<std::string, std::string>> asked;
  for (int i = 0; i < 40; i++) asked.push_back({"Question: " + random_words(5 + i * 7 % 60, static_cast<uint64_t>(i)) + "?\nAnswer:", "x"});
  asked.push_back({random_words(100) + "y z. Question: " + random_words(20) + "?\nAnswer:", "y z"});
  Task task = questions(asked);
  task.prompt = "Question: what?\nAnswer: that\n\n";
  for (const Model& model : {byte_model(MixerKind::softmax), byte_model(MixerKind::supra), byte_model(MixerKind::window), induction_model()}) {
    int64_t done = 0;
    const QuestionAnswering all = answer_questions(*model.decoder, bytes(), task, {.tokens = 12}, [&](int64_t n) { done = n; });
    EXPECT_EQ(done, 41);
    ASSERT_EQ(all.answers.size(), 41u);
    EXPECT_EQ(all.accuracy.n, 41);
    for (size_t i = 0; i < task.items.size(); i++) {
      Task one = task;
      one.items = {task.items[i]};
      EXPECT_EQ(answer_questions(*model.decoder, bytes(), one, {.tokens = 12}).answers[0].text, all.answers[i].text) << i;
    }
  }
}

TEST(Answers, LongPromptsAreCutFromTheLeft) {
  const Model model = byte_model(MixerKind::softmax);
  const std::string end = random_words(64 - 8, 9);
  const QuestionAnswering result =
      answer_questions(*model.decoder, bytes(), questions({{random_words(30) + end, "x"}, {end, "x"}}), {.tokens = 8, .context = 64});
  EXPECT_EQ(result.cut, 1);
  EXPECT_EQ(result.answers[0].text, result.answers[1].text);
  EXPECT_NE(complaint_of([&] { answer_questions(*model.decoder, bytes(), questions({{end, "x"}}), {.context = 16}); }).find("has only 16 positions"),
            std::string::npos);
}

TEST(Answers, DamagedQuestionsAreRefusedByFileItemAndField) {
  const TempDir folder;
  const Path file = folder.path() / "trivia.jsonl";
  const std::string good = R"({"context": "q", "answer": "x", "aliases": ["y", "z"]})";
  const auto complaint = [&](const std::string& second) {
    write_bytes(file, good + "\n" + second + "\n");
    return complaint_of([&] { read_tasks(file, ""); });
  };
  EXPECT_EQ(complaint(good), "");
  EXPECT_EQ(read_tasks(file, "")[0].items[1].answers, (std::vector<std::string>{"x", "y", "z"}));
  const std::pair<const char*, const char*> cases[] = {{R"({"answer": "x", "aliases": []})", "context"},
                                                       {R"({"context": "q", "aliases": []})", "answer"},
                                                       {R"({"context": "q", "answer": "x"})", "aliases"},
                                                       {R"({"context": "q", "answer": "x", "aliases": "y"})", "aliases"},
                                                       {R"({"context": "q", "answer": "x", "aliases": [1]})", "an alias"},
                                                       {R"({"context": 3, "answer": "x", "aliases": []})", "context"},
                                                       {R"({"context": "q", "answer": "", "aliases": []})", "empty"}};
  for (const auto& [line, field] : cases) {
    EXPECT_NE(complaint(line).find("trivia.jsonl:2"), std::string::npos) << line << ": " << complaint(line);
    EXPECT_NE(complaint(line).find(field), std::string::npos) << line << ": " << complaint(line);
  }
  const Model model = byte_model(MixerKind::supra);
  const std::string refused = complaint_of([&] { answer_questions(*model.decoder, bytes(), Task{"law", TaskKind::mmlu, "", 0, {}}, {}); });
  EXPECT_NE(refused.find("law: holds MMLU items"), std::string::npos) << refused;
}

std::vector<Task> some_mmlu(int64_t items) {
  Task task{"facts", TaskKind::mmlu, "These are questions.\n\n", 0, {}};
  for (int64_t i = 0; i < items; i++) {
    const std::string n = std::to_string(i);
    task.items.push_back(mmlu_item("Which is " + n + "?", {"one" + n, "two" + n, "three" + n, "four" + n}, i % 4));
  }
  return {task};
}

TEST(PositionBias, ContentsMoveOnAndTheRightOneWithThem) {
  const TaskItem item = mmlu_item("Q?", {"a", "b", "c", "d"}, 3), moved = shifted(item, 1);
  EXPECT_EQ(moved.candidates[0].context, "Q?\nA. d\nB. a\nC. b\nD. c\nAnswer:");
  EXPECT_EQ(moved.candidates[2].continuation, " C");
  EXPECT_EQ(moved.gold, 0);
  for (int64_t shift = 0; shift < 4; shift++) EXPECT_EQ(shifted(item, shift).choices[shifted(item, shift).gold], "d");
  EXPECT_EQ(shifted(item, 0).candidates[0].context, item.candidates[0].context);
}

// Its logits are the same whatever it reads, the letter A the likeliest.
Model always_a() {
  Model model = byte_model(MixerKind::softmax);
  model.decoder->visit([](const std::string& name, Var& parameter) {
    const Tensor& t = parameter.value();
    t.fill(name == "tok_embeddings.weight" || name.find("norm") != std::string::npos ? 1 : 0);
    if (name == "output.weight") t.rows('A', 'A' + 1).fill(1);
  });
  return model;
}

TEST(PositionBias, AModelThatAlwaysSaysAIsExposed) {
  const Model model = always_a();
  const PositionBias bias = position_bias(*model.decoder, bytes(), some_mmlu(10), 0, false);
  EXPECT_EQ(bias.accuracy.n, 10);
  EXPECT_EQ(bias.accuracy.mean(), .25);
  EXPECT_EQ(bias.accuracy.error(), 0);
  EXPECT_EQ(bias.letters[0].mean(), 1);
  for (size_t letter = 1; letter < 4; letter++) EXPECT_EQ(bias.letters[letter].mean(), 0);
  EXPECT_EQ(bias.same_content.mean(), 0);
  EXPECT_EQ(bias.all_right.mean(), 0);
  // as they stand 3 of 10 are right at A: what the usual question reports, for a model that knows nothing
  const double expected[] = {.3, .2, .2, .3};
  for (size_t shift = 0; shift < 4; shift++) EXPECT_NEAR(bias.by_shift[shift].mean(), expected[shift], 1e-12) << shift;
}

TEST(PositionBias, IsWhatEachQuestionGivesAlone) {
  const Model model = byte_model(MixerKind::supra);
  std::vector<Task> subjects = some_mmlu(9);
  subjects.push_back(some_mmlu(3)[0]);
  subjects[1].prompt = "Others.\n\n";
  int64_t done = 0;
  const PositionBias bias = position_bias(*model.decoder, bytes(), subjects, 40, false, [&](int64_t n) { done = n; });
  EXPECT_EQ(done, 12);
  EXPECT_EQ(bias.cut, 12 * 16);
  Mean accuracy, same;
  std::vector<double> letters(4);
  for (const Task& subject : subjects) {
    for (const TaskItem& item : subject.items) {
      double right = 0;
      std::vector<std::string> contents;
      for (int64_t shift = 0; shift < 4; shift++) {
        Task one{subject.name, subject.kind, subject.prompt, 0, {shifted(item, shift)}};
        auto requests = encode_task(bytes(), one, false);
        cut_requests(requests, 40);
        const int64_t letter = predict(one, 0, score_requests(*model.decoder, requests)[0]).sum;
        letters[letter] += 1.0 / 48;
        right += letter == one.items[0].gold;
        contents.push_back(one.items[0].choices[letter]);
      }
      accuracy.add(right / 4);
      same.add(std::count(contents.begin(), contents.end(), contents[0]) == 4);
    }
  }
  EXPECT_EQ(bias.accuracy.mean(), accuracy.mean());
  EXPECT_EQ(bias.accuracy.error(), accuracy.error());
  EXPECT_EQ(bias.same_content.mean(), same.mean());
  for (size_t letter = 0; letter < 4; letter++) EXPECT_NEAR(bias.letters[letter].mean(), letters[letter], 1e-12);
  EXPECT_NE(complaint_of([&] { position_bias(*model.decoder, bytes(), {questions({})}, 0, false); }).find("MMLU's csv"), std::string::npos);
}

TEST_F(CliTest, EvalAnswersQuestionsAndShiftsLetters) {
  write_bytes(at("trivia.jsonl"), R"({"context": "Question: who?\nAnswer:", "answer": "x", "aliases": ["y"]})"
                                  "\n" R"({"context": "Question: what?\nAnswer:", "answer": "z", "aliases": []})");
  const Json answers = expect_json(supra_run({"eval", at("teacher"), "--task", at("trivia.jsonl"), "--json"}),
                                   {"n", "acc", "acc_norm", "stderr", "items"});
  EXPECT_EQ(answers.integer("n"), 2);
  EXPECT_EQ(answers.text("kind"), "question answering");
  ASSERT_EQ(answers.at("items").as_array().size(), 2u);
  EXPECT_FALSE(answers.at("items").as_array()[0].flag("right"));
  EXPECT_SAYS(supra_run({"eval", at("teacher"), "--task", at("trivia.jsonl"), "--limit", "1"}).out, "question answering");

  write_bytes(at("law_test.csv"), "question,choice0,choice1,choice2,choice3,answer\nQ,a,b,c,d,3\nR,a,b,c,d,0\n");
  const std::vector<std::string> ask = {"eval", at("teacher"), "--position-bias", at("law_test.csv"), "--shots", "0"};
  EXPECT_SAYS(supra_run(ask).out, "answers D");
  std::vector<std::string> words = ask;
  words.push_back("--json");
  const Json bias = expect_json(supra_run(words), {"n", "acc", "stderr", "all_right", "same_content", "by_shift", "letters"});
  EXPECT_EQ(bias.integer("n"), 2);
  double letters = 0;
  for (const char* letter : {"A", "B", "C", "D"}) letters += bias.at("letters").at(letter).number("share");
  EXPECT_NEAR(letters, 1, 1e-9);
  EXPECT_EQ(bias.at("by_shift").as_array().size(), 4u);
  expect_error(supra_run({"eval", at("teacher"), "--position-bias", at("trivia.jsonl")}), {"MMLU's csv"});
  EXPECT_EQ(supra_run({"eval", at("teacher"), "--position-bias", at("law_test.csv"), "--task", at("trivia.jsonl")}).code, 2);
}

}  // namespace
}  // namespace supra
