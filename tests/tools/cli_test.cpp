#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <functional>

#include "tests/cli.h"
#include "tests/small_files.h"

// Commands, errors and exit codes; the flags of linearize and uptrain have files of their own.

namespace supra {
namespace {

// One corpus, whether it is read as a text or from a shard.
TEST_F(CliTest, TrainsOnAShardAsOnItsText) {
  expect_json(supra_run({"tokenize", "bytes", "--file", at("text.txt"), "--docs", "<end>", "-o", at("text.bin"),
                         "--json"}),
              {"tokens", "documents", "text_bytes"});
  std::vector<std::string> losses;
  for (const std::string& data : {at("text.txt"), at("text.bin"), at("text.bin") + "=2"}) {
    const Outcome run = supra_run({"uptrain", at("student"), "-o", at("on-shard"), "--overwrite", "--data", data, "--docs",
                                   "<end>", "--tokens", "2k", "--json"});
    losses.push_back(expect_json(run, {"loss"}).at("loss").dump());
  }
  EXPECT_EQ(losses, std::vector<std::string>(3, losses[0]));
}

TEST_F(CliTest, JsonKeysAreThoseOfTheContract) {
  expect_json(trained, {"tokens", "steps", "loss", "tokens_per_second", "seconds"});
  expect_json(linearized, {"parameters", "state_bytes"});
  expect_json(supra_run({"inspect", at("student"), "--json"}),
              {"family", "parameters", "layers", "config", "tensors"});
  const Json ids = expect_json(supra_run({"tokenize", at("student"), "--text", "abc", "--json"}), {"ids"});
  EXPECT_EQ(ids.at("ids").dump(), "[97, 98, 99]");
  expect_json(supra_run({"eval", at("student"), "--text", at("text.txt"), "--docs", "<end>", "--json"}),
              {"tokens", "nll", "stderr", "ppl", "bits_per_byte", "seconds", "tokens_per_second"});
  const Outcome wrote =
      supra_run({"generate", at("student"), "-p", "story", "-n", "8", "--ignore-eos", "--json"});
  const Json text = expect_json(wrote, {"ids", "text", "prompt_tokens", "prefill_tokens_per_second",
                                        "decode_tokens_per_second", "state_bytes"});
  EXPECT_EQ(text.at("ids").as_array().size(), 8u);
  expect_json(supra_run({"doctor", "--json"}), {"ok", "cores", "cpu", "memory", "blas", "cuda", "products", "png"});
}

// Another build helps only where there is a driver.
TEST_F(CliTest, DoctorAdvisesWhatCanHelpHere) {
  const Json cuda = expect_json(supra_run({"doctor", "--json"}), {}).at("cuda");
  const bool has_driver = cuda.text("found").find("a driver") != std::string::npos;
  EXPECT_EQ(cuda.text("use").find("make cuda") != std::string::npos, has_driver) << cuda.text("use");
}

TEST_F(CliTest, ChunkedAndRecurrentEvaluationAgree) {
  std::vector<std::string> words = {"eval", at("student"),  "--text", at("text.txt"), "--context",
                                    "64",   "--max-tokens", "500",    "--json"};
  const double chunked = expect_json(supra_run(words), {}).number("nll");
  words.push_back("--recurrent");
  EXPECT_NEAR(expect_json(supra_run(words), {}).number("nll"), chunked, 1e-5);
}

TEST_F(CliTest, TheStateGoesOnWhereItStopped) {
  const std::vector<std::string> common = {"generate", at("student"), "--greedy", "--ignore-eos", "--json"};
  const auto generate = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return expect_json(supra_run(more), {}).at("ids").dump();
  };
  const std::string whole = generate({"-p", "story 7", "-n", "20"});
  const std::string first = generate({"-p", "story 7", "-n", "12", "--state-out", at("state")});
  const std::string rest = generate({"--state-in", at("state"), "-n", "8"});
  EXPECT_EQ(first.substr(0, first.size() - 1) + ", " + rest.substr(1), whole);
}

TEST_F(CliTest, UsageErrorsExitWithTwoAndSuggest) {
  for (const auto& [words, hint] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"evla"}, "eval"},
           {{"eval", at("student"), "--txet", "x"}, "--text"},
           {{"eval", at("student")}, "--text"},
           {{"eval", at("student"), "--text"}, "--text"},
           {{"eval", at("student"), "--text", "x", "--context", "many"}, "many"},
           {{"linearize", at("teacher")}, "--output"},
           {{"uptrain", at("student"), "-o", at("x"), "--data", at("text.txt"), "--tokens", "3Q"}, "3Q"}}) {
    const Outcome outcome = supra_run(words);
    EXPECT_EQ(outcome.code, 2) << outcome.err;
    EXPECT_SAYS(outcome.err, hint);
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CliTest, EveryCommandHasHelp) {
  for (const char* command : {"inspect", "tokenize", "linearize", "uptrain", "train", "eval", "generate",
                              "chat", "verify", "plot", "doctor", "demo"}) {
    const Outcome outcome = supra_run({command, "--help"});
    EXPECT_EQ(outcome.code, 0) << command;
    EXPECT_SAYS(outcome.out, std::string("supra ") + command);
    EXPECT_EQ(outcome.err, "");
  }
  EXPECT_SAYS(supra_run({}).out, "usage:");
  EXPECT_EQ(supra_run({"--help"}).code, 0);
}

TEST_F(CliTest, BadInputIsNamed) {
  write_bytes(at("empty"), "");
  write_bytes(at("noise"), std::string(1000, '\x55'));
  expect_error(supra_run({"inspect", at("nowhere")}), {"nowhere"});
  expect_error(supra_run({"inspect", at("empty")}), {"empty"});
  expect_error(supra_run({"inspect", at("noise")}), {"noise"});
  expect_error(supra_run({"eval", at("student"), "--text", at("nowhere")}), {"nowhere", "No such file"});
  expect_error(supra_run({"eval", at("student"), "--text", at("empty")}), {"empty"});
  expect_error(supra_run({"uptrain", at("student"), "-o", at("x"), "--data", at("empty"), "--tokens", "1k"}),
               {"empty"});
  expect_error(supra_run({"linearize", at("student"), "-o", at("x")}), {"recurrent already"});
  expect_error(supra_run({"generate", at("student"), "--ids", "5,300"}), {"300"});
  expect_error(supra_run({"verify", at("student"), at("noise")}), {"noise"});
  expect_error(supra_run({"plot", at("text.txt"), "-o", at("x.png")}), {"text.txt"});
  expect_error(supra_run({"generate", at("student"), "-p", "a", "--state-in", at("noise")}), {"noise"});
}

TEST_F(CliTest, DamagedWeightsAreNamed) {
  const auto damaged = [](const std::string& name, const std::function<void(NamedTensors&)>& damage) {
    std::filesystem::copy(at("teacher"), at(name), std::filesystem::copy_options::recursive);
    NamedTensors tensors;
    const auto weights = open_safetensors(at("teacher/model.safetensors"));
    for (const TensorInfo& info : weights->tensors())
      tensors.push_back({info.name, weights->get(info.name).clone()});
    damage(tensors);
    write_safetensors(at(name + "/model.safetensors"), tensors);
    return supra_run({"eval", at(name), "--text", at("text.txt")});
  };
  const std::string victim = open_safetensors(at("teacher/model.safetensors"))->tensors().back().name;
  expect_error(damaged("missing", [](NamedTensors& t) { t.pop_back(); }), {"missing", victim});
  expect_error(damaged("misshapen",
                       [](NamedTensors& t) {
                         t.back().second = Tensor::zeros({3, 5});
                       }),
               {"misshapen", victim, "(3, 5)"});
  expect_error(damaged("nan", [](NamedTensors& t) { *t.back().second.data<float>() = NAN; }),
               {"nan", victim});

  const std::string bytes = read_file(at("teacher/model.safetensors"));
  std::filesystem::copy(at("teacher"), at("cut"), std::filesystem::copy_options::recursive);
  write_bytes(at("cut/model.safetensors"), bytes.substr(0, bytes.size() / 2));
  expect_error(supra_run({"inspect", at("cut")}), {"cut"});
}

TEST_F(CliTest, VerifyReportsInJson) {
  Tensor tokens = Tensor::zeros({1, 8}, Dtype::i32);
  write_safetensors(at("golden.safetensors"), {{"tokens", tokens}, {"logits", Tensor::zeros({1, 8, 256})}});
  const Outcome outcome = supra_run({"verify", at("student"), at("golden.safetensors"), "--json"});
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  const Json json = Json::parse(outcome.out, "stdout");
  EXPECT_EQ(json.integer("failed"), 1);
  const Json& row = json.at("keys").as_array()[0];
  EXPECT_EQ(row.text("key"), "logits");
  // no rounding makes these of zeros
  EXPECT_EQ(row.number("tolerance"), 2e-4);
  EXPECT_LT(row.number("weight_rounding"), row.number("error"));
  const Json wide = Json::parse(supra_run({"verify", at("student"), at("golden.safetensors"), "--json", "--dtype", "f64"}).out, "stdout");
  EXPECT_EQ(wide.text("dtype"), "f64");
  EXPECT_EQ(wide.at("keys").as_array()[0].number("tolerance"), 1e-6);
  EXPECT_EQ(supra_run({"verify", at("student"), at("golden.safetensors"), "--dtype", "f64", "--device", "cuda"}).code, 2);
}

TEST_F(CliTest, IdsDecodeToTheirText) {
  EXPECT_EQ(supra_run({"tokenize", "bytes", "--decode", "--ids", "104,195,169"}).out, "h\xc3\xa9\n");
  const Outcome ids = supra_run({"tokenize", "bytes", "--text", "h\xc3\xa9 \n"});
  EXPECT_EQ(run({{"tokenize", "bytes", "--decode"}, ids.out, RLIM_INFINITY, ""}).out, "h\xc3\xa9 \n\n");
  // 2^32 + 97 is not 97
  expect_error(supra_run({"tokenize", "bytes", "--decode", "--ids", "4294967393"}), {"4294967393"});
}

TEST_F(CliTest, AModelTakesNoOtherFilesPlace) {
  std::filesystem::create_directory(at("mine"));
  write_bytes(at("mine/notes.txt"), "keep");
  expect_error(supra_run({"linearize", at("teacher"), "-o", at("mine")}), {"mine", "notes.txt"});
  EXPECT_EQ(read_file(at("mine/notes.txt")), "keep");
  const std::string before = read_file(at("teacher/model.safetensors"));
  expect_error(supra_run({"linearize", at("teacher"), "-o", at("teacher")}), {"teacher", "--output"});
  EXPECT_EQ(read_file(at("teacher/model.safetensors")), before);
}

TEST_F(CliTest, OverwritingForgetsTheOldRun) {
  std::vector<std::string> words = {"train",        at("config.json"), "-o",    at("again"), "--data",
                                    at("text.txt"), "--tokenizer",     "bytes", "--json",    "--tokens"};
  const auto with = [&](std::initializer_list<std::string> more) {
    std::vector<std::string> all = words;
    all.insert(all.end(), more);
    return supra_run(all);
  };
  expect_json(with({"2k"}), {});
  EXPECT_EQ(expect_json(with({"1k", "--overwrite"}), {}).integer("steps"), 3);
  EXPECT_TRUE(std::filesystem::exists(at("again/checkpoints/step-000003")));
  EXPECT_FALSE(std::filesystem::exists(at("again/checkpoints/step-000007")));
  // a resumed run that meets a full disk leaves both the model and its last checkpoint whole
  const std::string before = read_file(at("again/model.safetensors"));
  std::vector<std::string> longer = words;
  longer.insert(longer.end(), {"2k", "--resume"});
  const Outcome full = run({longer, "", 120000, ""});
  EXPECT_EQ(full.code, 1) << full.err;
  EXPECT_SAYS(full.err, "optimizer.safetensors");
  EXPECT_SAYS(full.err, "File too large");
  EXPECT_EQ(read_file(at("again/model.safetensors")), before);
  EXPECT_EQ(expect_json(supra_run(longer), {}).integer("steps"), 7);
  // a finished run has nothing left to do, and fewer tokens than it has seen are a mistake
  EXPECT_SAYS(supra_run(longer).out, "\"loss\": null");
  const Outcome shorter = with({"1k", "--resume"});
  EXPECT_EQ(shorter.code, 1);
  EXPECT_SAYS(shorter.err, "step-000007: has been trained on 1792 tokens");
}

TEST_F(CliTest, TheTokenizerBesideAConfigIsFoundFromItsFolder) {
  const std::vector<std::string> words = {"train",  "config.json", "-o",       "../relative",
                                          "--data", "../text.txt", "--tokens", "1k"};
  EXPECT_EQ(run({words, "", RLIM_INFINITY, "", at("teacher")}).code, 0);
}

TEST_F(CliTest, ARunIsNotOverwrittenByMistake) {
  expect_error(supra_run({"train", at("config.json"), "-o", at("teacher"), "--data", at("text.txt"),
                          "--tokens", "1k", "--tokenizer", "bytes"}),
               {"teacher", "--resume"});
}

TEST_F(CliTest, AFullDiskLeavesWhatStoodThere) {
  const std::string before = read_file(directory->path() / "student/model.safetensors");
  Outcome outcome = run({{"linearize", at("teacher"), "-o", at("student"), "--seed", "9"}, "", 20000, ""});
  expect_error(outcome, {"cannot write", "model.safetensors"});
  EXPECT_EQ(read_file(directory->path() / "student/model.safetensors"), before);
  EXPECT_FALSE(std::filesystem::exists(directory->path() / ".tmp-student"));

  // the first checkpoint fits, the moments of the second do not: the first one stands
  outcome = run({{"uptrain", at("student"), "-o", at("full"), "--data", at("text.txt"), "--tokens", "1k"},
                 "",
                 100000,
                 ""});
  EXPECT_EQ(outcome.code, 1);
  EXPECT_SAYS(outcome.err, "cannot write");
  EXPECT_FALSE(std::filesystem::exists(directory->path() / "full/model.safetensors"));
}

TEST_F(CliTest, CtrlCSavesACheckpointThatGoesOn) {
  const std::vector<std::string> words = {
      "uptrain", at("student"), "-o",  at("long"),           "--data", at("text.txt"), "--docs",
      "<end>",   "--tokens",    "50M", "--checkpoint-every", "1k"};
  const Outcome outcome = run({words, "", RLIM_INFINITY, "saved "});
  EXPECT_EQ(outcome.code, 1) << outcome.err;
  EXPECT_SAYS(outcome.err, "interrupted at step");
  EXPECT_SAYS(outcome.err, "long/checkpoints/step-");
  const size_t name = outcome.err.rfind("step-0");
  ASSERT_NE(name, std::string::npos);
  const std::string checkpoint = "long/checkpoints/" + outcome.err.substr(name, 11);
  expect_json(supra_run({"eval", at(checkpoint), "--text", at("text.txt"), "--max-tokens", "200", "--json"}),
              {"nll"});
  std::vector<std::string> again = words;
  again.push_back("--resume");
  const Outcome resumed = run({again, "", RLIM_INFINITY, "resumed from"});
  EXPECT_SAYS(resumed.err, "resumed from " + at(checkpoint));
}

// Step, tokens, loss, gradient norm and learning rate of every row: all but what the clock says.
static std::string without_times(const std::string& csv) {
  std::string kept;
  for (size_t at = 0, end; (end = csv.find('\n', at)) != std::string::npos; at = end + 1) {
    size_t column = 0;
    for (char c : csv.substr(at, end - at)) {
      column += c == ',';
      if (column != 2 && column != 6) kept += c;
    }
    kept += '\n';
  }
  return kept;
}

// 100 steps are 37, a kill some steps later, and the 63 behind the checkpoint.
TEST_F(CliTest, AKilledRunGoesOnBitForBit) {
  for (const std::string recipe : {"supra", "transfer", "distill"}) {
    const auto words = [&](const std::string& name) {
      return std::vector<std::string>{"uptrain", at("student"), "-o", at(name), "--overwrite", "--data", at("text.txt"), "--docs", "<end>",
                                      "--recipe", recipe, "--teacher", at("teacher"), "--seq-len", "16", "--batch-tokens", "64",
                                      "--tokens", "6400", "--accumulate", "2", "--activation-checkpointing", "--checkpoint-every", "2368",
                                      "--keep", "5", "--pack", "carried", "--log", at(name + ".csv")};
    };
    const Outcome straight = supra_run(words("straight"));
    ASSERT_EQ(straight.code, 0) << straight.err;
    struct Run killed{words("killed"), "", RLIM_INFINITY, ""};
    std::filesystem::remove(at("killed.csv"));
    killed.kill_when = [&] { return std::filesystem::exists(at("killed.csv")) && read_file(at("killed.csv")).find("\n41,") != std::string::npos; };
    EXPECT_EQ(run(killed).code, 128 + SIGKILL);
    EXPECT_TRUE(std::filesystem::exists(at("killed/checkpoints/step-000037")));
    std::vector<std::string> resume = words("killed");
    resume.push_back("--resume");
    const Outcome resumed = supra_run(resume);
    ASSERT_EQ(resumed.code, 0) << resumed.err;
    for (const char* file : {"model.safetensors", "optimizer.safetensors", "memory.safetensors"}) {
      const std::string name = "checkpoints/step-000100/" + std::string(file);
      EXPECT_EQ(read_file(at("killed/" + name)), read_file(at("straight/" + name))) << recipe << " " << name;
    }
    EXPECT_EQ(without_times(read_file(at("killed.csv"))), without_times(read_file(at("straight.csv")))) << recipe;
  }
}

TEST_F(CliTest, TrainsOnWhatTheTeacherSays) {
  const std::vector<std::string> words = {"uptrain", at("student"), "-o",     at("by_itself"), "--teacher",     at("teacher"),
                                          "--data",  "self",        "--json", "--tokens",      "2k",            "--recipe",
                                          "transfer"};
  EXPECT_EQ(expect_json(supra_run(words), {}).integer("steps"), 7);
  const std::string text = read_file(at("by_itself/self.bin"));
  // more of it would be another text: a run that goes on reads what it was made with
  std::vector<std::string> longer = words;
  longer[10] = "3k";
  longer.push_back("--resume");
  EXPECT_EQ(expect_json(supra_run(longer), {}).integer("steps"), 11);
  EXPECT_EQ(read_file(at("by_itself/self.bin")), text);
  expect_error(supra_run({"uptrain", at("student"), "-o", at("alone"), "--data", "self", "--tokens", "1k"}), {"--teacher"});
}

TEST_F(CliTest, SaysWhyNoGpuCanBeUsed) {
#if defined(SUPRA_CUDA)
  GTEST_SKIP() << "this build has kernels for a GPU";
#endif
  // before the model, which is not there, is looked for
  const std::vector<std::vector<std::string>> commands = {{"generate", "none", "-p", "a"}, {"chat", "none"}, {"eval", "none", "--text", "a"},
      {"verify", "none", "none"}, {"quantize", "none", "-o", "none"}, {"linearize", "none", "-o", "none"}, {"bench"},
      {"uptrain", "none", "-o", "none", "--data", "none", "--tokens", "1"}, {"train", "none", "-o", "none", "--data", "none", "--tokens", "1"}};
  for (std::vector<std::string> words : commands) {
    words.insert(words.end(), {"--device", "cuda"});
    expect_error(supra_run(words), {"no GPU can be used", "make cuda"});
  }
  const Outcome outcome = supra_run({"generate", at("student"), "-p", "a", "--activations", "bf16"});
  EXPECT_EQ(outcome.code, 2);
  EXPECT_SAYS(outcome.err, "--device cuda");
}

TEST_F(CliTest, ProductsAreChosenByAFlag) {
  const auto nll = [&](const char* products) {
    return expect_json(supra_run({"eval", at("student"), "--text", at("text.txt"), "--max-tokens", "300", "--products", products, "--json"}), {})
        .at("nll").as_number();
  };
  const double exact = nll("f32");
  EXPECT_NE(nll("bf16"), exact);
  EXPECT_NEAR(nll("bf16"), exact, 0.02);
  EXPECT_NEAR(nll("bf16x3"), exact, 1e-4);
  const Outcome unknown = supra_run({"generate", at("student"), "-p", "a", "--products", "fp8"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_SAYS(unknown.err, "bf16x3");
  setenv("SUPRA_PRODUCTS", "half", 1);
  expect_error(supra_run({"generate", at("student"), "-p", "a"}), {"SUPRA_PRODUCTS: products are \"half\"", "bf16x3"});
  unsetenv("SUPRA_PRODUCTS");
}

TEST_F(CliTest, AStateOfAnotherModelIsRefused) {
  const std::string state = at("own.state"), old = at("old.state");
  EXPECT_EQ(supra_run({"generate", at("student"), "-p", "a", "-n", "1", "--state-out", state}).code, 0);
  const auto go_on = [](const std::string& model, const std::string& file, const char* dtype) {
    return supra_run({"generate", at(model), "--state-in", file, "-n", "1", "--dtype", dtype});
  };
  for (const char* dtype : {"stored", "f32"}) {
    const Outcome own = go_on("student", state, dtype);
    EXPECT_EQ(own.code, 0) << own.err;
    EXPECT_EQ(own.err.find("note"), std::string::npos) << own.err;
  }
  for (const auto& [name, flag, value] : std::vector<std::array<const char*, 3>>{{"seed-2", "--seed", "2"}, {"retnet", "--decay", "retnet"}}) {
    EXPECT_EQ(supra_run({"linearize", at("teacher"), "-o", at(name), flag, value}).code, 0);
    expect_error(go_on(name, state, "stored"), {"own.state", "another model"});
  }
  EXPECT_SAYS(run({{"chat", at("seed-2"), "-n", "1"}, "/load " + state + "\n", RLIM_INFINITY, ""}).out, "another model");

  // written before states named their model
  const auto file = open_safetensors(state);
  NamedTensors tensors;
  for (const TensorInfo& info : file->tensors()) tensors.push_back({info.name, file->get(info.name)});
  write_safetensors(old, tensors, {{"format", "supra state"}});
  const Outcome outcome = go_on("student", old, "stored");
  EXPECT_EQ(outcome.code, 0);
  EXPECT_SAYS(outcome.err, "note: " + old);
}

// A full disk: what could not be written leaves the state that was there.
TEST_F(CliTest, AStateThatCannotBeWrittenLeavesTheOldOne) {
  const std::string state = at("kept.state");
  EXPECT_EQ(supra_run({"generate", at("student"), "-p", "a", "-n", "1", "--state-out", state}).code, 0);
  const std::string before = read_file(state);
  expect_error(run({{"generate", at("student"), "--state-in", state, "-n", "1", "--state-out", state}, "", 1000, ""}),
               {"kept.state", "File too large"});
  EXPECT_EQ(read_file(state), before);
  const Outcome chat = run({{"chat", at("student"), "-n", "1"}, "/load " + state + "\n/save " + state + "\n", 1000, ""});
  EXPECT_EQ(chat.code, 0) << chat.err;
  EXPECT_SAYS(chat.out, "File too large");
  EXPECT_EQ(read_file(state), before);
  EXPECT_FALSE(exists(temporary_path(state)));
}

// A state is written into a file: a link to one stays a link, and what is no file stays what it is.
TEST_F(CliTest, AStateReplacesOnlyFiles) {
  const Path file = at("linked/state"), link = at("link.state"), pipe = at("pipe.state");
  std::filesystem::create_directory(file.parent_path());
  const auto save = [](const Path& path) { return supra_run({"generate", at("student"), "-p", "a", "-n", "1", "--state-out", path.string()}); };
  EXPECT_EQ(save(file).code, 0);
  std::filesystem::create_symlink(file, link);
  const std::string before = read_file(file);
  write_bytes(file, "");
  EXPECT_EQ(save(link).code, 0);
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_file(file), before);
  EXPECT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  for (const Path& path : {pipe, file.parent_path()}) {
    expect_error(save(path), {path.filename().string(), "not a regular file"});
    EXPECT_FALSE(exists(temporary_path(path)));
  }
  EXPECT_TRUE(std::filesystem::is_fifo(pipe));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file.parent_path()), {}), 1);
}

// A prompt continues the text of the state: a text read in two parts has the ids of the whole.
TEST_F(CliTest, APromptContinuesTheTextOfTheState) {
  std::vector<TestPiece> pieces = three_marks(false);
  append(pieces, {{"\u2581", -9}, {"a", -9}, {"b", -9}, {"\u2581a", -2}});
  write_bytes(at("ab.model"), model_file(pieces));
  const std::string state = at("half.state");
  const auto position = [&](std::vector<std::string> words) {
    const std::vector<std::string> common = {"generate", at("student"), "--tokenizer", at("ab.model"), "-n", "0", "--json"};
    words.insert(words.begin(), common.begin(), common.end());
    return expect_json(supra_run(words), {}).integer("position");
  };
  EXPECT_EQ(position({"-p", "abab"}), 5);
  EXPECT_EQ(position({"-p", "ab", "--state-out", state}), 3);
  EXPECT_EQ(position({"-p", "ab", "--state-in", state}), 5);
}

TEST_F(CliTest, ChatKeepsItsState) {
  const Outcome outcome = run({{"chat", at("student"), "-n", "5"},
                               "story\n/state\n/save " + at("chat.state") + "\n/reset\n/load " +
                                   at("chat.state") + "\n/bogus\n/quit\n",
                               RLIM_INFINITY,
                               ""});
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_SAYS(outcome.out, "the state is empty");
  EXPECT_SAYS(outcome.out, "loaded " + at("chat.state") + ", position");
}

}  // namespace
}  // namespace supra
