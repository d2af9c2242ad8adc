#include <gtest/gtest.h>

#include <cmath>

#include "supra/evaluation/agreement.h"
#include "supra/evaluation/measure.h"
#include "supra/evaluation/task_folder.h"
#include "supra/evaluation/text_sample.h"
#include "supra/linearize.h"
#include "tests/cli.h"
#include "tests/tiny_model.h"
#include "tools/command.h"
#include "tools/compare/table.h"
#include "tools/plot/png.h"

// Students beside their teacher: what is measured, what is kept of it, and the table.

namespace supra {
namespace {

using Sequences = std::vector<std::vector<int32_t>>;

// log p of every id of the vocabulary behind the first t + 1 ids, in double, by the definition: row t.
std::vector<std::vector<double>> log_probabilities(const Decoder& decoder, const std::vector<int32_t>& ids) {
  NoGrad off;
  const int64_t T = static_cast<int64_t>(ids.size()) - 1, O = decoder.config().vocab;
  const Tensor tokens = Tensor::of(std::vector<int32_t>(ids.begin(), ids.end() - 1), {1, T});
  const Tensor logits = decoder.logits(decoder.hidden(tokens)).value().to(Dtype::f64);
  std::vector<std::vector<double>> rows;
  for (int64_t t = 0; t < T; t++) {
    const double* x = logits.data<double>() + t * O;
    double sum = 0;
    for (int64_t o = 0; o < O; o++) sum += std::exp(x[o]);
    std::vector<double>& row = rows.emplace_back(x, x + O);
    for (double& v : row) v -= std::log(sum);
  }
  return rows;
}

TEST(Compare, LossByPositionIsThatOfADirectComputation) {
  const Path shared = shared_dir() / "models/stories260K/stories260K.bin", text = shared_dir() / "data/tinystories/uptrain_test.txt";
  SKIP_WITHOUT(shared);
  SKIP_WITHOUT(text);
  const Model model = load_model(shared, "", Weights::stored);
  const std::string stories = read_whole_text(text);
  Sequences sequences;
  for (const std::string_view part : text_parts(stories, *model.tokenizer, 500, 3)) sequences.push_back(model.tokenizer->encode(part));
  const Perplexity measured = evaluate(*model.decoder, sequences);
  // from 0, 128, 256, ...
  std::vector<Mean> direct(3);
  for (const auto& ids : sequences) {
    const auto rows = log_probabilities(*model.decoder, ids);
    for (size_t t = 0; t < rows.size(); t++) direct[t + 1 < 128 ? 0 : t + 1 < 256 ? 1 : 2].add(-rows[t][ids[t + 1]]);
  }
  ASSERT_EQ(measured.by_position.size(), direct.size());
  for (size_t i = 0; i < direct.size(); i++) {
    const Band& band = measured.by_position[i];
    EXPECT_EQ(band.tokens, direct[i].n);
    EXPECT_EQ(band.from, i == 0 ? 0 : int64_t{64} << i);
    EXPECT_NEAR(band.nll, direct[i].mean(), 1e-4);
    EXPECT_NEAR(band.error, direct[i].error(), 1e-4);
  }
}

TEST(Compare, AgreementIsWhatItsDefinitionSays) {
  const auto teacher = tiny_decoder(MixerKind::softmax, 3), student = tiny_decoder(MixerKind::supra, 4);
  Philox random(9);
  const Sequences sequences = {random_ids(random, 50), random_ids(random, 1), random_ids(random, 300)};
  Agreement direct;
  for (const auto& ids : sequences) {
    if (ids.size() < 2) continue;
    const auto p = log_probabilities(*teacher, ids), q = log_probabilities(*student, ids);
    for (size_t t = 0; t < p.size(); t++) {
      double kl = 0;
      for (size_t o = 0; o < p[t].size(); o++) kl += std::exp(p[t][o]) * (p[t][o] - q[t][o]);
      direct.kl.add(kl);
      direct.top1.add(std::max_element(p[t].begin(), p[t].end()) - p[t].begin() ==
                      std::max_element(q[t].begin(), q[t].end()) - q[t].begin());
      direct.above.add(p[t][ids[t + 1]] - q[t][ids[t + 1]]);
    }
  }
  int64_t done = 0;
  const Agreement measured = measure_agreement(*teacher, *student, sequences, [&](int64_t n, int64_t) { done = n; });
  EXPECT_EQ(measured.kl.n, 49 + 299);
  EXPECT_EQ(done, 49 + 299);
  EXPECT_NEAR(measured.kl.mean(), direct.kl.mean(), 1e-5);
  EXPECT_NEAR(measured.kl.error(), direct.kl.error(), 1e-5);
  EXPECT_EQ(measured.top1.mean(), direct.top1.mean());
  EXPECT_NEAR(measured.above.mean(), direct.above.mean(), 1e-5);
  const Agreement itself = measure_agreement(*teacher, *teacher, sequences);
  EXPECT_NEAR(itself.kl.mean(), 0, 1e-6);
  EXPECT_EQ(itself.top1.mean(), 1);
  EXPECT_EQ(itself.above.mean(), 0);
}

TEST(Compare, PartsLieEvenlyAndDoNotOverlap) {
  const auto bytes = load_tokenizer("bytes");
  std::string text;
  for (int i = 0; i < 1000; i++) text += format("line %d says \u00e9 and ends here\n", i);
  const auto parts = text_parts(text, *bytes, 200, 20);
  ASSERT_EQ(parts.size(), 20u);
  for (size_t i = 0; i < parts.size(); i++) {
    EXPECT_TRUE(parts[i].starts_with("line ")) << parts[i];
    EXPECT_LE(parts[i].size(), 200u);
    EXPECT_GE(parts[i].size(), 199u) << "a character of two bytes is not cut";
    if (i > 0) {
      EXPECT_GE(parts[i].data(), parts[i - 1].data() + parts[i - 1].size());
    }
    EXPECT_NEAR(static_cast<double>(parts[i].data() - text.data()), static_cast<double>(text.size() * i / 20), 40);
  }
  // fewer where there is no room, one where there is none at all
  EXPECT_EQ(text_parts(text.substr(0, 600), *bytes, 200, 20).size(), 2u);
  EXPECT_EQ(text_parts("short", *bytes, 200, 20), std::vector<std::string_view>{"short"});
  EXPECT_EQ(text_parts(std::string(1000, 'x'), *bytes, 200, 3).size(), 3u) << "a text of one line";
}

TEST(Compare, FrequenciesAloneAreTheEntropyOfTheText) {
  EXPECT_NEAR(frequency_nll({{9, 1, 1, 2, 2}, {7}, {5, 3, 3, 3, 3}}), -(0.5 * std::log(0.25) + 0.5 * std::log(0.5)), 1e-12);
}

TEST(Compare, AStudentKeepsAPartOfTheDistanceFromChance) {
  const auto accuracy_of = [](const std::string& items, std::optional<double> chance = 0.25) {
    Mean mean;
    for (const char c : items) mean.add(c == '1');
    return Figure{"task", Unit::percent, mean.mean(), mean.error(), chance, items};
  };
  const Figure teacher = accuracy_of("1111111100"), student = accuracy_of("1111100100");
  const auto kept = kept_part(teacher, student);
  ASSERT_TRUE(kept);
  EXPECT_NEAR(kept->part, (0.6 - 0.25) / (0.8 - 0.25), 1e-12);
  // the same answers differ by nothing, and by pairs that is known
  EXPECT_EQ(kept_part(teacher, teacher)->part, 1);
  EXPECT_EQ(kept_part(teacher, teacher)->error, 0);
  Figure unpaired = student;
  unpaired.items.clear();
  EXPECT_NEAR(kept_part(teacher, unpaired)->error, std::hypot(*student.error, kept->part * *teacher.error) / 0.55, 1e-12);
  EXPECT_LT(kept->error, kept_part(teacher, unpaired)->error);
  // below chance is less than nothing; of a loss, chance is above
  EXPECT_LT(kept_part(teacher, accuracy_of("1000000000"))->part, 0);
  Figure loss = {"nats", Unit::nats, 2, 0.01, 6}, worse = {"nats", Unit::nats, 3, 0.01, 6};
  EXPECT_FALSE(kept_part(loss, worse)) << "were it no loss, the teacher would be below chance";
  loss.falls = worse.falls = true;
  EXPECT_NEAR(kept_part(loss, worse)->part, 0.75, 1e-12);
  // of a teacher at chance there is nothing to keep
  EXPECT_FALSE(kept_part(accuracy_of("1100000000"), student));
  EXPECT_FALSE(kept_part(accuracy_of("1111111100", {}), accuracy_of("1111111100", {})));
}

TaskSet numbered_set(int parts, int items) {
  TaskSet set{"numbers", {}};
  for (int p = 0; p < parts; p++) {
    Task& task = set.parts.emplace_back(Task{format("part %d", p), TaskKind::choices, "", 0, {}});
    for (int i = 0; i < items; i++) task.items.push_back({{{format("%d of %d", i, p), " a", 1}, {"", " b", 1}}, 0});
  }
  return set;
}

std::vector<std::string> contexts_of(const TaskSet& set) {
  std::vector<std::string> contexts;
  for (const Task& part : set.parts)
    for (const TaskItem& item : part.items) contexts.push_back(item.candidates[0].context);
  return contexts;
}

TEST(Compare, ItemsAreChosenBySeedAndALargerLimitKeepsThem) {
  const auto chosen = [](int64_t limit, uint64_t seed) {
    TaskSet set = numbered_set(7, 30);
    choose_items(set, limit, seed);
    return set;
  };
  EXPECT_EQ(chosen(0, 1).items(), 210);
  EXPECT_EQ(chosen(500, 1).items(), 210);
  const auto few = contexts_of(chosen(20, 1)), more = contexts_of(chosen(60, 1));
  EXPECT_EQ(few.size(), 20u);
  EXPECT_EQ(few, contexts_of(chosen(20, 1)));
  EXPECT_NE(few, contexts_of(chosen(20, 2)));
  for (const std::string& context : few) EXPECT_NE(std::find(more.begin(), more.end(), context), more.end());
  EXPECT_EQ(chosen(20, 1).hash(), chosen(20, 1).hash());
  EXPECT_NE(chosen(20, 1).hash(), chosen(21, 1).hash());
  EXPECT_LE(chosen(2, 1).parts.size(), 2u) << "parts without items are dropped";
  EXPECT_EQ(chosen(20, 1).chance(), 0.5);
}

TEST(Compare, ResultsAreFoundAgainByWhatTheyDependOn) {
  const TempDir folder;
  const KeptResults results(folder.path() / "results");
  const Measure text = {"text", "of that file"}, other = {"text", "of another"};
  EXPECT_FALSE(results.find("model", text));
  results.keep("model", "a/model", text, {Json::object({{"nll", 2.5}}), 7});
  ASSERT_TRUE(results.find("model", text));
  EXPECT_EQ(results.find("model", text)->result.number("nll"), 2.5);
  EXPECT_EQ(results.find("model", text)->seconds, 7);
  EXPECT_FALSE(results.find("model", other));
  EXPECT_FALSE(results.find("another model", text));
  // what is no result is measured again
  for (const auto& entry : std::filesystem::directory_iterator(folder.path() / "results")) write_bytes(entry.path(), "{\"key\":");
  EXPECT_FALSE(results.find("model", text));
}

TEST(Compare, ReportsAreJoined) {
  Json whole = Json::parse(R"({"nll":1,"tasks":{"a":{"n":1}}})", "whole");
  merge(whole, Json::parse(R"({"kl":2,"tasks":{"b":{"n":2}}})", "part"));
  EXPECT_EQ(whole, Json::parse(R"({"nll":1,"tasks":{"a":{"n":1},"b":{"n":2}},"kl":2})", "joined"));
}

TEST(Compare, ATableHasARowAFigureAndTellsWhatCannotBeCompared) {
  Topic text, task;
  text.title = "text", task.title = "tasks";
  text.measure.name = "text", task.measure.name = "task";
  text.figures = [](const Json& r) {
    std::vector<Figure> figures = {{"nats", Unit::nats, r.number("nll"), 0.1, 6}, {"bits", Unit::bits, r.number("bits"), 0.1, 3}};
    for (Figure& figure : figures) figure.falls = true;
    return figures;
  };
  task.figures = [](const Json& r) { return std::vector<Figure>{{"piqa", Unit::percent, r.number("acc"), 0.02, 0.5}}; };
  const auto column = [](const char* name, double nll, bool same) {
    return Column{name, same, Json::object({{"text", Json::object({{"nll", nll}, {"bits", nll / 2}})}})};
  };
  std::vector<Column> columns = {column("teacher", 2, true), column("near", 3, true), column("strange", 3, false)};
  columns[1].report.set("task", Json::object({{"acc", 0.7}}));
  const Table table = make_table({text, task}, columns);
  ASSERT_EQ(table.rows.size(), 3u);
  EXPECT_NEAR(*table.rows[0].cells[1].kept, 0.75, 1e-12);
  EXPECT_FALSE(table.rows[0].cells[2].kept) << "nats a token of another vocabulary";
  EXPECT_NEAR(*table.rows[1].cells[2].kept, 1.5 / 2, 1e-12);
  EXPECT_FALSE(table.rows[2].cells[0].figure);
  EXPECT_FALSE(table.rows[2].cells[1].kept) << "the teacher was not asked";
  ASSERT_EQ(table.notes.size(), 1u);
  EXPECT_SAYS(as_text(table), "3.000 +- 0.100 [1]");
  EXPECT_SAYS(as_text(table), "3.000 +- 0.100 (75 +- ");
  EXPECT_SAYS(as_text(table), "nats a token are not comparable");
  EXPECT_SAYS(as_markdown(table), "| piqa | - | 70.0 +- 2.0 | - |");
  const Json json = as_json(table);
  EXPECT_EQ(json.as_array().size(), 3u);
  EXPECT_NEAR(json.as_array()[0].at("cells").as_array()[1].number("kept"), 0.75, 1e-12);
}

// ---- the command, on models of a few thousand parameters that know nothing

class CompareCommand : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    write_bytes(at("tasks/colours.jsonl"), R"({"query": "The sky is", "choices": ["blue", "loud"], "gold": 0})"
                                           "\n"
                                           R"({"query": "Grass is", "choices": ["sad", "green", "old"], "gold": 1})");
    write_bytes(at("tasks/last.jsonl"), R"({"context": "story 7 has a beginning and an", "continuation": "end"})");
    write_bytes(at("tasks/letters/test/law_test.csv"), "question,choice0,choice1,choice2,choice3,answer\nQ,a,b,c,d,3\nR,a,b,c,d,0\n");
    write_bytes(at("tasks/letters/dev/law_dev.csv"), "question,choice0,choice1,choice2,choice3,answer\nP,a,b,c,d,1\n");
  }
  static std::string at(const std::string& name) {
    const Path path = CliTest::at(name);
    make_directories(path.parent_path());
    return path;
  }
  static std::vector<std::string> words(const std::string& out, std::vector<std::string> more = {}) {
    std::vector<std::string> all = {"compare", at("teacher"), at("student"), "--text", at("text.txt"),
                                    "--tasks", at("tasks"),   "--context",   "256",    "--text-tokens",
                                    "1k",      "--facts",     "2",           "-o",     at(out)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  // Name and time of each result.
  static std::map<std::string, std::filesystem::file_time_type> results(const std::string& out) {
    std::map<std::string, std::filesystem::file_time_type> files;
    std::error_code absent;
    for (const auto& entry : std::filesystem::directory_iterator(at(out + "/results"), absent)) {
      if (!entry.path().filename().string().starts_with("."))
        files[entry.path().filename()] = std::filesystem::last_write_time(entry.path(), absent);
    }
    return files;
  }
};

TEST_F(CompareCommand, WritesWhatItSaysAndMeasuresNothingTwice) {
  const Outcome outcome = supra_run(words("out", {"--json"}));
  const Json report = expect_json(outcome, {"models", "rows", "notes"});
  ASSERT_EQ(report.at("models").as_array().size(), 2u);
  for (const Json& model : report.at("models").as_array()) {
    for (const char* key : {"path", "nll", "stderr", "bits_per_byte", "by_position", "tasks", "bytes_at", "tokens_per_second_at"})
      EXPECT_TRUE(model.find(key)) << key;
    int64_t tokens = 0;
    for (const Json& band : model.at("by_position").as_array()) tokens += band.integer("tokens");
    EXPECT_EQ(tokens, 3 * 255) << "1,000 tokens are three parts of 256";
    EXPECT_EQ(model.at("position_bias").integer("n"), 1) << "a quarter of the items";
    for (const char* list : {"recall", "recall_among", "repetition"}) {
      const Json::Array rows = model.at(list).as_array();
      // a distance of 64 bytes has no room for two sentences
      const size_t asked = list == std::string("recall_among") ? 2 : 3;
      ASSERT_EQ(rows.size(), asked) << list;
      for (size_t i = 0; i < asked; i++) EXPECT_EQ(rows[i].integer("distance"), 256 >> (asked - 1 - i));
    }
    const Json& tasks = model.at("tasks");
    EXPECT_EQ(tasks.as_object().size(), 3u);
    for (const char* key : {"acc", "acc_norm", "stderr"}) EXPECT_TRUE(tasks.at("colours").find(key)) << key;
    EXPECT_EQ(tasks.at("letters").integer("n"), 2);
    EXPECT_EQ(tasks.at("letters").integer("shots"), 1);
    EXPECT_NEAR(tasks.at("colours").number("chance"), (1 / 2. + 1 / 3.) / 2, 1e-12);
    for (const char* tokens_read : {"1024", "16384", "262144"}) EXPECT_GT(model.at("bytes_at").integer(tokens_read), 0);
    for (const char* depth : {"64", "2048", "8192"}) EXPECT_GT(model.at("tokens_per_second_at").number(depth), 0);
  }
  const Json &teacher = report.at("models").as_array()[0], &student = report.at("models").as_array()[1];
  EXPECT_FALSE(teacher.find("kl"));
  EXPECT_GT(student.number("kl"), 0);
  EXPECT_NEAR(student.number("nll") - teacher.number("nll"), student.number("nll_above_teacher"), 1e-4);
  EXPECT_LE(student.number("top1_agreement"), 1);
  EXPECT_EQ(student.at("bytes_at").integer("1024"), student.at("bytes_at").integer("262144"));
  EXPECT_EQ(Json::load(at("out/compare.json")), report);

  const auto before = results("out");
  EXPECT_EQ(before.size(), 2u * 8 + 1);
  const Outcome again = supra_run(words("out"));
  EXPECT_EQ(again.code, 0) << again.err;
  EXPECT_SAYS(again.err, "0 measurements to make");
  EXPECT_EQ(results("out"), before);
  EXPECT_SAYS(again.out, "colours, by length (2)");
  EXPECT_SAYS(again.out, "knows");  // positions beyond the teacher's 64
  EXPECT_SAYS(again.out, "grows with the text: every layer keeps all keys");
  EXPECT_SAYS(read_file(at("out/compare.md")), "| same first choice, % | - |");
  if (why_no_png().empty()) {
    for (const char* picture : {"out/by_position.png", "out/recall.png", "out/cost.png"})
      EXPECT_EQ(read_file(at(picture)).substr(1, 3), "PNG");
  }
  // one more student is measured, and nothing else
  const Outcome made = supra_run({"linearize", at("teacher"), "-o", at("half"), "--keep-softmax", "0"});
  ASSERT_EQ(made.code, 0) << made.err;
  std::vector<std::string> more = words("out");
  more.insert(more.begin() + 3, at("half"));
  const Outcome three = supra_run(more);
  EXPECT_SAYS(three.err, "9 measurements to make");
  EXPECT_SAYS(three.out, "grows with the text: 1 of 2 layers keep all keys");
}

TEST_F(CompareCommand, GoesOnWhereItWasKilled) {
  supra::Run killed{words("killed"), "", RLIM_INFINITY, ""};
  killed.kill_when = [] { return results("killed").size() >= 3; };
  EXPECT_EQ(run(killed).code, 128 + SIGKILL);
  const auto before = results("killed");
  EXPECT_GE(before.size(), 3u);
  supra::Run stopped{words("killed"), "", RLIM_INFINITY, ""};
  stopped.interrupt_when = "measurements to make";
  const Outcome interrupted = run(stopped);
  EXPECT_EQ(interrupted.code, 1);
  EXPECT_SAYS(interrupted.err, "the same command goes on there");
  EXPECT_EQ(supra_run(words("killed")).code, 0);
  const auto after = results("killed");
  EXPECT_EQ(after.size(), 17u);
  for (const auto& [name, time] : before) EXPECT_EQ(after.at(name), time) << name << " was measured again";
}

TEST_F(CompareCommand, RefusesWhatCannotBeComparedByName) {
  const auto compare = [](const std::string& flag, const std::string& file) {
    return supra_run({"compare", at("teacher"), at("student"), flag, file, "-o", at("bad")});
  };
  write_bytes(at("bad1/a.jsonl"), R"({"question": "q", "answers": ["x"]})");
  expect_error(compare("--tasks", at("bad1")), {"a.jsonl:1", "query, choices, gold"});
  write_bytes(at("bad2/a.jsonl"), R"({"query": "q", "choices": ["x"], "gold": 0})"
                                  "\n"
                                  R"({"query": "q", "choices": ["x"]})");
  expect_error(compare("--tasks", at("bad2")), {"a.jsonl:2", "gold"});
  make_directories(at("bad3"));
  expect_error(compare("--tasks", at("bad3")), {"bad3", "no task"});
  expect_error(compare("--tasks", at("absent")), {"absent", "does not exist"});
  write_bytes(at("empty.txt"), " \n\n");
  expect_error(compare("--text", at("empty.txt")), {"empty.txt", "no text"});
  expect_error(supra_run({"compare", at("teacher"), at("nobody"), "-o", at("bad")}), {"nobody"});
  EXPECT_FALSE(std::filesystem::exists(at("bad"))) << "nothing is begun";
  EXPECT_EQ(supra_run({"compare", at("teacher")}).code, 2);
  write_bytes(at("mine/notes.txt"), "mine");
  expect_error(supra_run({"compare", at("teacher"), at("student"), "-o", at("mine")}), {"holds other files"});
}

TEST_F(CompareCommand, AShortTextAndAnotherVocabularyAreSaid) {
  Model other = byte_model(MixerKind::supra);
  Config config = other.config();
  config.vocab = 300;
  other.decoder = make_decoder(config);
  other.decoder->init_weights(2);
  save_model(other, at("wider"));
  write_bytes(at("short.txt"), "story 1 has a beginning and an end, and nothing behind it");
  const Outcome outcome = supra_run({"compare", at("teacher"), at("wider"), "--text", at("short.txt"), "-o", at("strange")});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_SAYS(outcome.err, "fewer than --context 8192");
  EXPECT_SAYS(outcome.err, "no agreement is measured");
  EXPECT_SAYS(outcome.out, "nats a token are not comparable, bits a byte are");
  EXPECT_EQ(outcome.out.find("KL"), std::string::npos);
}

}  // namespace
}  // namespace supra
