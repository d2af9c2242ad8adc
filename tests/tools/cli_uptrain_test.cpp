#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <set>
#include <sstream>

#include "kernels/products.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/training/checkpoint.h"
#include "tests/cli.h"

// supra uptrain: what its flags do to the weights, to the log and to the plan.

namespace supra {
namespace {

class UptrainTest : public CliTest {
 protected:
  // Runs of a gated student, twenty steps of 128 tokens unless the words say otherwise.
  static Outcome uptrain(const std::string& from, const std::string& to, std::vector<std::string> words) {
    const std::vector<std::string> common = {
        "uptrain",        at(from), "-o",     at(to),        "--overwrite", "--data",    at("text.txt"),
        "--docs",         "<end>",  "--json", "--lr",        "1e-2",        "--seq-len", "32",
        "--batch-tokens", "128",    "--log",  at("run.csv"), "--tokens",    "2560"};
    words.insert(words.begin(), common.begin(), common.end());
    return supra_run(words);
  }
  static void gated(const std::string& name) {
    const Outcome outcome =
        supra_run({"linearize", at("teacher"), "-o", at(name), "--mixer", "gated", "--output-gate"});
    ASSERT_EQ(outcome.code, 0) << outcome.err;
  }
  static std::map<std::string, Tensor> weights(const std::string& name) {
    std::map<std::string, Tensor> all;
    const auto file = open_safetensors(at(name + "/model.safetensors"));
    for (const TensorInfo& info : file->tensors()) all[info.name] = file->get(info.name).clone();
    return all;
  }
  // Which weights differ is what `trained` says of their names.
  static void expect_trained(const std::string& from, const std::string& to,
                             const std::function<bool(const std::string&)>& trained) {
    const auto before = weights(from), after = weights(to);
    ASSERT_EQ(before.size(), after.size());
    for (const auto& [name, tensor] : before)
      EXPECT_NE(same_bits(tensor, after.at(name)), trained(name)) << name;
  }
  // A column of the log.
  static std::vector<double> logged(size_t column) {
    std::istringstream rows(read_file(at("run.csv")));
    std::vector<double> values;
    std::string row;
    std::getline(rows, row);
    while (std::getline(rows, row)) {
      std::istringstream cells(row);
      std::string cell;
      for (size_t i = 0; i <= column; i++) std::getline(cells, cell, ',');
      values.push_back(std::stod(cell));
    }
    return values;
  }
  static constexpr size_t kLoss = 3, kLr = 5;
  static bool is_new(const std::string& name) { return name.find("_totrain_") != std::string::npos; }
};

TEST_F(UptrainTest, SchedulesFallAsTheySay) {
  gated("student");
  // of twenty steps the first warms up: the rate at step 10 and at the last one, over the peak
  const double end = 18.0 / 19, half = 9.0 / 19;
  const std::map<std::string, std::pair<double, double>> expected = {
      {"constant", {1, 1}},
      {"linear", {1 - half, 1 - end}},
      {"wsd", {1, 1 - (end - 0.8) / 0.2}},
      {"cosine", {0.5 * (1 + std::cos(M_PI * half)), 0.5 * (1 + std::cos(M_PI * end))}}};
  for (const auto& [name, rates] : expected) {
    const Outcome outcome =
        uptrain("student", "run", {"--schedule", name, "--min-lr", "0", "--warmup", "0.05"});
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    const std::vector<double> lr = logged(kLr);
    ASSERT_EQ(lr.size(), 20u);
    EXPECT_NEAR(lr[0], 1e-2, 1e-8) << name;
    EXPECT_NEAR(lr[10], 1e-2 * rates.first, 1e-8) << name;
    EXPECT_NEAR(lr[19], 1e-2 * rates.second, 1e-8) << name;
  }
  EXPECT_EQ(uptrain("student", "run", {"--schedule", "bogus"}).code, 2);
}

// The two steps of the paper's ablation: the new weights alone, then all.
TEST_F(UptrainTest, NewWeightsFirstThenAll) {
  gated("student");
  EXPECT_EQ(uptrain("student", "first", {"--only", "*_totrain_*"}).code, 0);
  expect_trained("student", "first", is_new);
  const double after_first = logged(kLoss).back();
  EXPECT_LT(after_first, logged(kLoss).front());
  EXPECT_EQ(uptrain("first", "second", {}).code, 0);
  expect_trained("first", "second", [](const std::string&) { return true; });
  EXPECT_LT(logged(kLoss).back(), after_first);
}

TEST_F(UptrainTest, FreezesAndScalesByName) {
  gated("student");
  EXPECT_EQ(uptrain("student", "run", {"--only", "_totrain_", "norm", "--freeze", "layers.1.*decay"}).code,
            0);
  expect_trained("student", "run", [](const std::string& name) {
    return (is_new(name) || name.find("norm") != name.npos) &&
           name.find("layers.1.attention._totrain_decay") == name.npos;
  });
  EXPECT_EQ(uptrain("student", "run", {"--new-lr", "0"}).code, 0);
  expect_trained("student", "run", [](const std::string& name) { return !is_new(name); });
  const Outcome nothing = uptrain("student", "run", {"--only", "no_such"});
  EXPECT_EQ(nothing.code, 1);
  EXPECT_SAYS(nothing.err, "trains no parameter (see --only and --freeze)");
}

TEST_F(UptrainTest, RecomputedAndAccumulatedStepsAreTheSame) {
  gated("student");
  EXPECT_EQ(uptrain("student", "plain", {"--products", "f32"}).code, 0);
  const std::vector<double> losses = logged(kLoss);
  EXPECT_EQ(uptrain("student", "recomputed", {"--products", "f32", "--activation-checkpointing"}).code, 0);
  EXPECT_EQ(logged(kLoss), losses);
  expect_trained("plain", "recomputed", [](const std::string&) { return false; });
  EXPECT_EQ(uptrain("student", "parts", {"--products", "f32", "--accumulate", "2"}).code, 0);
  const std::vector<double> in_parts = logged(kLoss);
  ASSERT_EQ(in_parts.size(), losses.size());
  // AdamW magnifies the rounding of another order of sums
  for (size_t i = 0; i < losses.size(); i++) EXPECT_NEAR(in_parts[i], losses[i], 1e-3) << i;
  expect_error(uptrain("student", "run", {"--accumulate", "3"}), {"3 parts"});
}

// A text of another kind from step 26 on: its first steps are outliers.
TEST_F(UptrainTest, OutliersAreNotedAndSkipped) {
  gated("student");
  std::string text(128 * 25, 'a');
  for (int i = 0; i < 128 * 10; i++) text += static_cast<char>('b' + i * i % 23);
  write_bytes(at("two_kinds.txt"), text);
  const auto notes_of = [](std::vector<std::string> words) {
    const std::vector<std::string> common = {
        "uptrain", at("student"), "-o",        at("run"), "--overwrite",    "--data", at("two_kinds.txt"),
        "--lr",    "1e-2",        "--seq-len", "32",      "--batch-tokens", "128",    "--tokens",
        "3840",    "--schedule",  "constant"};
    words.insert(words.begin(), common.begin(), common.end());
    const Outcome outcome = supra_run(words);
    EXPECT_EQ(outcome.code, 0) << outcome.err;
    return outcome.err;
  };
  EXPECT_EQ(notes_of({}).find("outlier"), std::string::npos);
  const std::string noted = notes_of({"--outliers", "4"});
  EXPECT_SAYS(noted, "step 26 is an outlier");
  EXPECT_EQ(noted.find("; skipped"), std::string::npos);
  EXPECT_SAYS(notes_of({"--outliers", "4", "--skip-outliers"}), "; skipped");
  expect_error(uptrain("student", "run", {"--outliers", "0.5"}), {"--outliers 0.5", "above 1"});
}

TEST_F(UptrainTest, LowRankFactorsAreMergedIntoWhatIsPublished) {
  gated("student");
  EXPECT_EQ(uptrain("student", "run", {"--lora", "2"}).code, 0);
  EXPECT_LT(logged(kLoss).back(), logged(kLoss).front());
  expect_trained("student", "run", [](const std::string& name) {
    return is_new(name) || name.find("attention.in_proj") != name.npos ||
           name.find("attention.out_proj") != name.npos;
  });
}

TEST_F(UptrainTest, ALogHoldsEachStepOnce) {
  gated("student");
  EXPECT_EQ(uptrain("student", "run", {"--tokens", "1280", "--checkpoint-every", "640"}).code, 0);
  // killed behind a checkpoint: rows of steps that are done again, the last one half written; and one twice
  std::string log = read_file(at("run.csv"));
  const std::string row = log.substr(log.rfind('\n', log.size() - 2) + 1);
  write_bytes(at("run.csv"), log + row + "11,1408,1.0,9,9,9,9,,text\n12,1536,1.0,9,9");
  const Outcome outcome = supra_run({"uptrain", at("student"), "-o", at("run"), "--resume", "--data",
                                     at("text.txt"), "--docs", "<end>", "--lr", "1e-2", "--seq-len", "32",
                                     "--batch-tokens", "128", "--log", at("run.csv"), "--tokens", "2560"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  std::vector<double> steps(20);
  std::iota(steps.begin(), steps.end(), 1);
  EXPECT_EQ(logged(0), steps);
  for (const double loss : logged(kLoss)) EXPECT_LT(loss, 8);
}

TEST_F(UptrainTest, ARunKeepsItsProducts) {
  gated("student");
  const auto in_record = [](const char* run) { return read_training_state(*latest_checkpoint(at(run))).facts.products; };
  EXPECT_EQ(uptrain("student", "fast", {"--tokens", "256"}).code, 0);
  EXPECT_EQ(in_record("fast"), name(fastest_products()));
  EXPECT_EQ(uptrain("student", "run", {"--tokens", "256", "--products", "bf16x3"}).code, 0);
  const std::vector<std::string> resume = {"uptrain", at("student"), "-o", at("run"), "--resume", "--data", at("text.txt"), "--docs",
                                           "<end>", "--seq-len", "32", "--batch-tokens", "128", "--tokens", "512"};
  setenv("SUPRA_PRODUCTS", "f32", 1);
  const Outcome refused = supra_run(resume);
  unsetenv("SUPRA_PRODUCTS");
  EXPECT_EQ(refused.code, 1);
  EXPECT_SAYS(refused.err, "was made with --products bf16x3, this run has f32");
  const Outcome resumed = supra_run(resume);
  EXPECT_EQ(resumed.code, 0) << resumed.err;
  EXPECT_EQ(in_record("run"), "bf16x3");
}

// Of a log that cannot be written the user hears once, and the run goes on.
// A shard holds the documents that training would read from the file, by whichever flag it is named.
TEST_F(UptrainTest, AShardOfJsonLinesIsItsDocuments) {
  write_file_atomically(at("two.jsonl"), "{\"text\": \"a cat sat\"}\n{\"text\": \"an owl ran\"}\n");
  for (const char* flag : {"--lines", "--file"}) {
    const Json json =
        expect_json(supra_run({"tokenize", "bytes", flag, at("two.jsonl"), "-o", at("two.bin"), "--json"}),
                    {"documents", "text_bytes"});
    EXPECT_EQ(json.integer("documents"), 2) << flag;
    EXPECT_EQ(json.integer("text_bytes"), 19) << flag;
  }
}

TEST_F(UptrainTest, APictureOrAShardReplacesNotWhatItIsMadeOf) {
  write_file_atomically(at("mine.txt"), "a cat sat\n");
  const Outcome shard = supra_run({"tokenize", "bytes", "--file", at("mine.txt"), "-o", at("mine.txt")});
  EXPECT_EQ(shard.code, 1);
  EXPECT_SAYS(shard.err, "is the text itself");
  EXPECT_EQ(read_file(at("mine.txt")), "a cat sat\n");
  const std::string rows = "step,tokens,loss\n1,64,5\n2,128,4\n";
  write_file_atomically(at("mine.csv"), rows);
  const Outcome picture = supra_run({"plot", at("mine.csv"), "-o", at("mine.csv"), "--y", "loss"});
  EXPECT_EQ(picture.code, 1);
  EXPECT_SAYS(picture.err, "is a log");
  EXPECT_EQ(read_file(at("mine.csv")), rows);
}

TEST_F(UptrainTest, ALogReplacesLogsAlone) {
  gated("student");
  write_file_atomically(at("notes.txt"), "mine\n");
  const Outcome outcome = uptrain("student", "logged", {"--log", at("notes.txt")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_SAYS(outcome.err, "is not a log of a run");
  EXPECT_EQ(read_file(at("notes.txt")), "mine\n");
  EXPECT_FALSE(std::filesystem::exists(at("logged/checkpoints")));
}

TEST_F(UptrainTest, AFullDiskEndsTheLogAlone) {
  if (!std::filesystem::is_character_file("/dev/full")) GTEST_SKIP() << "/dev/full is not here";
  gated("student");
  const Outcome outcome = uptrain("student", "run", {"--log", "/dev/full"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_SAYS(outcome.err,
              "/dev/full: cannot be written: No space left on device; the log ends before step 1");
  EXPECT_EQ(outcome.err.find("cannot be written"), outcome.err.rfind("cannot be written")) << outcome.err;
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/full"));
}

// Held-out text is documents, whatever file they are in; what is none is refused before anything is trained
// or removed.
TEST_F(UptrainTest, ValidatesOnDocuments) {
  gated("student");
  write_file_atomically(at("held.txt"), "a cat sat\n<end>\nan owl ran\n<end>\n");
  write_file_atomically(at("held.jsonl"),
                        "{\"text\": \"a cat sat\"}\n\n{\"text\": \"an owl ran\", \"id\": 7}\n");
  const auto validated = [&](const char* name) {
    return expect_json(uptrain("student", "run", {"--valid", at(name)}), {"valid_nll"}).number("valid_nll");
  };
  EXPECT_EQ(validated("held.jsonl"), validated("held.txt"));
  const auto scored = [&](const char* name) {
    return expect_json(supra_run({"eval", at("student"), "--text", at(name), "--docs", "<end>", "--json"}),
                       {"nll"})
        .number("nll");
  };
  EXPECT_EQ(scored("held.jsonl"), scored("held.txt"));
  ASSERT_EQ(
      supra_run({"tokenize", "bytes", "--file", at("held.txt"), "--docs", "<end>", "-o", at("held.bin")})
          .code,
      0);
  EXPECT_SAYS(supra_run({"eval", at("student"), "--text", at("held.bin")}).err, "is a shard");
  write_file_atomically(at("empty.txt"), "<end>\n");
  const std::pair<const char*, const char*> refused[] = {{"held.bin", "is a shard"},
                                                         {"empty.txt", "is too short to score"}};
  for (const auto& [name, why] : refused) {
    const Outcome outcome = uptrain("student", "run", {"--valid", at(name)});
    EXPECT_EQ(outcome.code, 1) << name;
    EXPECT_SAYS(outcome.err, why);
    EXPECT_TRUE(std::filesystem::exists(at("run/checkpoints")));
  }
}

// What the teacher said is no text that a user could make a shard of again.
TEST_F(UptrainTest, GoesOnWithoutWhatTheTeacherSaid) {
  gated("student");
  const auto self = [](std::vector<std::string> words) {
    const std::vector<std::string> common = {
        "uptrain",   at("student"), "-o",        at("self"), "--data",         "self",
        "--teacher", at("teacher"), "--seq-len", "32",       "--batch-tokens", "128"};
    words.insert(words.begin(), common.begin(), common.end());
    return supra_run(words);
  };
  ASSERT_EQ(self({"--tokens", "1280"}).code, 0);
  // a shard of version 1 had no ends of documents
  std::string shard = read_file(at("self/self.bin"));
  shard[8] = 1;
  write_bytes(at("self/self.bin"), shard);
  const Outcome refused = self({"--tokens", "2560", "--resume"});
  EXPECT_EQ(refused.code, 1);
  EXPECT_SAYS(refused.err, "remove it and give --accept-changes");
  std::filesystem::remove(at("self/self.bin"));
  const Outcome outcome = self({"--tokens", "2560", "--resume", "--accept-changes"});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
}

// What one run lets its teacher say is not written over by another one in the same folder.
TEST_F(UptrainTest, TheTeacherIsAskedByOneProcessAtATime) {
  std::filesystem::create_directories(at("locked"));
  const FileLock lock(at("locked/.lock"));
  const Outcome outcome = supra_run({"uptrain", at("student"), "-o", at("locked"), "--data", "self", "--teacher",
                                     at("teacher"), "--tokens", "1280", "--seq-len", "32", "--batch-tokens", "128"});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_SAYS(outcome.err, "is writing here");
  EXPECT_FALSE(std::filesystem::exists(at("locked/self.bin")));
}

// A run never writes over what it was made from.
TEST_F(UptrainTest, LeavesItsModelAndItsTeacher) {
  gated("student");
  ASSERT_EQ(uptrain("student", "run", {}).code, 0);
  const auto names = [](const std::string& folder) {
    std::set<std::string> all;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(at(folder)))
      all.insert(entry.path().string());
    return all;
  };
  const std::string teachers = read_file(at("teacher/model.safetensors"));
  const std::set<std::string> before = names("run");
  for (const char* part :
       {"run", "run/model.safetensors", "run/checkpoints/step-000020", "run/checkpoints/step-000020/"}) {
    const Outcome outcome = uptrain(part, "run", {});
    EXPECT_EQ(outcome.code, 1) << part;
    EXPECT_SAYS(outcome.err, "is the model itself");
  }
  EXPECT_EQ(names("run"), before);
  const Outcome outcome = uptrain("student", "teacher", {"--recipe", "distill", "--teacher", at("teacher")});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_SAYS(outcome.err, "is the teacher itself");
  EXPECT_EQ(read_file(at("teacher/model.safetensors")), teachers);
}

TEST_F(UptrainTest, ADryRunPlansAndWritesNothing) {
  gated("student");
  const auto plan = [](std::vector<std::string> words) {
    words.push_back("--dry-run");
    const Json json =
        expect_json(uptrain("student", "planned", words), {"stages", "batch_tokens", "sequence", "epochs"});
    EXPECT_FALSE(std::filesystem::exists(at("planned")));
    std::map<std::string, int64_t> bytes;
    for (const char* key : {"weights", "gradients", "moments", "activations", "loss", "teacher", "peak"}) {
      bytes[key] = json.at("plan").integer(key);
    }
    const Json& stage = json.at("stages").as_array().back();
    EXPECT_EQ(stage.number("lr"), 1e-2);
    bytes["steps"] = stage.integer("steps");
    return bytes;
  };
  auto all = plan({}), fewer = plan({"--only", "_totrain_"}), again = plan({"--activation-checkpointing"}),
       parts = plan({"--accumulate", "4"});
  auto taught = plan({"--recipe", "distill", "--teacher", at("teacher")});
  EXPECT_EQ(all["steps"], 20);
  EXPECT_EQ(taught["steps"], 14);
  EXPECT_EQ(all["moments"], 2 * all["weights"]);
  EXPECT_LT(fewer["moments"], all["moments"]);
  EXPECT_EQ(fewer["weights"], all["weights"]);
  EXPECT_LT(again["activations"], all["activations"]);
  EXPECT_LT(parts["activations"], all["activations"]);
  EXPECT_EQ(all["teacher"], 0);
  // nor does the teacher say a word
  const Json self = expect_json(
      supra_run({"uptrain", at("student"), "-o", at("planned"), "--data", "self", "--teacher", at("teacher"),
                 "--tokens", "2560", "--seq-len", "32", "--batch-tokens", "128", "--dry-run", "--json"}),
      {"plan"});
  EXPECT_EQ(self.number("epochs"), 1);
  EXPECT_FALSE(std::filesystem::exists(at("planned")));
  EXPECT_GT(taught["teacher"], 0);
}

}  // namespace
}  // namespace supra
