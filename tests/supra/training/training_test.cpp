#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/products.h"
#include "supra/formats/parse/json.h"
#include "supra/linearize.h"
#include "supra/training/checkpoint.h"
#include "supra/training/train.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

// Sentences with a pattern that a tiny model can learn.
std::string pattern_text(int documents) {
  std::string text;
  for (int i = 0; i < documents; i++) {
    const char* who[] = {"a cat", "a dog", "an owl"};
    text += format("%s sat; %s ran.\n<end>\n", who[i % 3], who[i % 3]);
  }
  return text;
}

Corpus pattern_corpus(const TempDir& directory, int documents = 60) {
  const Path file = directory.path() / "text.txt";
  write_file_atomically(file, pattern_text(documents));
  return read_corpus({file}, *load_tokenizer("bytes"), "<end>");
}

TrainOptions small_run() {
  TrainOptions o;
  o.sequence = 32;
  o.batch_tokens = 64;
  o.tokens = 64 * 20;
  o.recipe.lr = 3e-3;
  o.seed = 7;
  return o;
}

std::vector<Tensor> weights_of(const Model& model) {
  std::vector<Tensor> weights;
  model.decoder->visit([&](const std::string&, Var& parameter) { weights.push_back(parameter.value().clone()); });
  return weights;
}

bool same_weights(const Model& a, const Model& b) {
  const auto x = weights_of(a), y = weights_of(b);
  return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(), same_bits);
}

TEST(Train, LearnsAPattern) {
  for (MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    const TempDir directory;
    const Corpus corpus = pattern_corpus(directory);
    Model model = byte_model(mixer);
    TrainOptions o = small_run();
    o.tokens = 64 * 150;
    o.recipe.lr = 1e-2;
    double first = 0;
    TrainHooks hooks;
    hooks.on_step = [&](const TrainStep& s) {
      if (s.step == 1) first = s.loss;
    };
    const TrainResult result = train(model, nullptr, corpus, o, directory.path() / "run", hooks);
    EXPECT_GT(first, 4.5);
    EXPECT_LT(result.loss, 1.0);
    EXPECT_TRUE(result.without_gradient.empty());
    // the directory itself is the model
    EXPECT_TRUE(same_weights(load_model(directory.path() / "run"), model));
  }
}

TEST(Train, AccumulationEqualsTheLargeBatch) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  std::vector<std::vector<Tensor>> results;
  for (int64_t parts : {1, 2}) {
    Model model = byte_model(MixerKind::supra);
    TrainOptions o = small_run();
    o.accumulate = parts;
    o.tokens = 64 * 5;
    train(model, nullptr, corpus, o, directory.path() / "run", {});
    results.push_back(weights_of(model));
  }
  for (size_t i = 0; i < results[0].size(); i++) EXPECT_LT(difference(results[1][i], results[0][i]).normalised, 1e-3);
}

TEST(Train, ResumesBitForBit) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  Model straight = byte_model(MixerKind::supra);
  train(straight, nullptr, corpus, small_run(), directory.path() / "straight", {});

  int steps = 0;
  TrainHooks hooks;
  hooks.should_stop = [&] { return steps++ == 9; };
  Model broken = byte_model(MixerKind::supra);
  const TrainResult half = train(broken, nullptr, corpus, small_run(), directory.path() / "broken", hooks);
  EXPECT_TRUE(half.interrupted);
  EXPECT_EQ(half.steps, 9);
  Model resumed = byte_model(MixerKind::supra);
  resumed.decoder->init_weights(99);
  TrainOptions o = small_run();
  o.resume = true;
  const TrainResult rest = train(resumed, nullptr, corpus, o, directory.path() / "broken", {});
  EXPECT_EQ(rest.steps, 20);
  EXPECT_TRUE(same_weights(resumed, straight));

  // what the steps are counted in may not change on the way
  for (const auto& change : std::vector<std::function<void(TrainOptions&)>>{
           [](TrainOptions& t) { t.seed = 8; }, [](TrainOptions& t) { t.packing = Packing::documents; },
           [](TrainOptions& t) { t.sequence = 16; }, [](TrainOptions& t) { t.tokens = 64 * 3; }}) {
    TrainOptions other = o;
    change(other);
    EXPECT_THROW(train(resumed, nullptr, corpus, other, directory.path() / "broken", {}), Error);
  }
  const Corpus shorter = pattern_corpus(directory, 58);
  EXPECT_THROW(train(resumed, nullptr, shorter, o, directory.path() / "broken", {}), Error);
}

// Trains up to `steps` steps and stops there with a checkpoint, as Ctrl-C does.
void train_and_stop(Model& model, const Corpus& corpus, const TrainOptions& o, const Path& run, int64_t steps) {
  int64_t asked = 0;
  TrainHooks hooks;
  hooks.should_stop = [&] { return asked++ == steps; };
  ASSERT_TRUE(train(model, nullptr, corpus, o, run, hooks).interrupted);
}

// What a run complains about; empty where it does not.
std::string complaint(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// A run that resumes with a validation that it did not have so far is judged from there on.
TEST(Train, AValidationThatComesLaterLosesNothing) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  Model straight = byte_model(MixerKind::supra);
  train(straight, nullptr, corpus, small_run(), directory.path() / "straight");
  for (const bool worse : {false, true}) {
    const Path run = directory.path() / (worse ? "worse" : "better");
    Model stopped = byte_model(MixerKind::supra), resumed = byte_model(MixerKind::supra);
    train_and_stop(stopped, corpus, small_run(), run, 9);
    TrainOptions o = small_run();
    o.resume = true;
    o.checkpoint_every = 64;
    int calls = 0;
    TrainHooks hooks;
    std::string notes;
    hooks.validate = [&](int64_t) { return worse ? ++calls : 1.0 / ++calls; };
    hooks.on_note = [&](const std::string& line) { notes += line + "\n"; };
    const TrainResult result = train(resumed, nullptr, corpus, o, run, hooks);
    EXPECT_EQ(result.steps, 20);
    EXPECT_NE(notes.find("goes on at 1.0000 nats"), std::string::npos) << notes;
    EXPECT_EQ(notes.find("are dropped") != std::string::npos, worse) << notes;
    EXPECT_TRUE(same_weights(resumed, worse ? stopped : straight));
    EXPECT_TRUE(same_weights(load_model(run), resumed));
    EXPECT_TRUE(std::filesystem::exists(checkpoint_path(run, 9)));
  }
}

TEST(Train, NoStageIsUndoneWithoutACheckpointToGoBackTo) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  Model straight = byte_model(MixerKind::supra);
  train(straight, nullptr, corpus, small_run(), directory.path() / "straight");
  // the first validation was infinite; then, the checkpoint where the stage began is gone
  for (const double first : {static_cast<double>(INFINITY), 1.0}) {
    const Path run = directory.path() / "run";
    Model model = byte_model(MixerKind::supra);
    int calls = 0;
    TrainHooks hooks;
    hooks.validate = [&](int64_t) { return calls++ == 0 ? first : 2.0; };
    hooks.should_stop = [&] { return calls == 1 && latest_checkpoint(run) && std::filesystem::exists(checkpoint_path(run, 0)); };
    ASSERT_TRUE(train(model, nullptr, corpus, small_run(), run, hooks).interrupted);
    TrainOptions o = small_run();
    o.resume = true;
    hooks.should_stop = [&] {
      if (first == 1) remove_checkpoints(run);
      return false;
    };
    train(model, nullptr, corpus, o, run, hooks);
    EXPECT_TRUE(same_weights(model, straight)) << first;
    EXPECT_TRUE(same_weights(load_model(run), straight)) << first;
  }
}

// Killed between saving the weights of a stage that became worse and dropping them, a run drops them when it resumes.
TEST(Train, AStageIsUndoneAfterACrashToo) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Model model = byte_model(MixerKind::supra);
  const Model begin = byte_model(MixerKind::supra);
  int calls = 0;
  TrainHooks hooks;
  hooks.validate = [&](int64_t) { return static_cast<double>(++calls); };
  hooks.on_note = [&](const std::string& line) { CHECK(line.find("are dropped") == std::string::npos, "killed"); };
  ASSERT_EQ(complaint([&] { train(model, nullptr, corpus, small_run(), run, hooks); }), "killed");
  EXPECT_FALSE(same_weights(load_model(checkpoint_path(run, 20)), begin));
  TrainOptions o = small_run();
  o.resume = true;
  hooks.on_note = nullptr;
  EXPECT_EQ(train(model, nullptr, corpus, o, run, hooks).valid_nll, 1);
  EXPECT_TRUE(same_weights(model, begin));
  EXPECT_TRUE(same_weights(load_model(run), begin));
}

// The validation of all held-out text may take long, and may fail: what was trained is written before.
TEST(Train, ItsModelIsThereBeforeTheLastValidation) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Model model = byte_model(MixerKind::supra);
  TrainHooks hooks;
  hooks.held_out_tokens = 1'000'000;
  hooks.validate = [&](int64_t tokens) {
    CHECK(tokens > 0, "killed");
    return 1.0;
  };
  ASSERT_EQ(complaint([&] { train(model, nullptr, corpus, small_run(), run, hooks); }), "killed");
  EXPECT_TRUE(same_weights(load_model(checkpoint_path(run, 20)), model));
  EXPECT_TRUE(same_weights(load_model(run), model));
}

// A softmax teacher, and the student of a recipe of two stages: what a run of it needs.
struct Taught {
  Model teacher = byte_model(MixerKind::softmax), student = linearize(teacher, {}).model;
  TrainOptions options = small_run();

  Taught() {
    teacher.decoder->visit([](const std::string&, Var& parameter) { parameter = Var(parameter.value()); });
    options.recipe.kind = RecipeKind::transfer;
    options.recipe.transfer_share = 0.5;
  }
  TrainResult run(const Corpus& corpus, const Path& run, const TrainHooks& hooks = {}) {
    return train(student, teacher.decoder.get(), corpus, options, run, hooks);
  }
};

// A stage that began without validation does not inherit what the stage before it was compared with.
TEST(Train, AStageIsNotUndoneToWhereAnotherOneBegan) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Taught taught;
  int64_t asked = 0;
  double nll = 1;
  std::string notes;
  TrainHooks blind, seeing;
  blind.should_stop = seeing.should_stop = [&] { return asked++ == 5; };
  seeing.validate = [&](int64_t) { return nll; };
  seeing.held_out_hash = "text";
  seeing.on_note = [&](const std::string& line) { notes += line + "\n"; };
  ASSERT_TRUE(taught.run(corpus, run, seeing).interrupted);  // step 5 of the first stage
  taught.options.resume = true;
  asked = -5;
  ASSERT_TRUE(taught.run(corpus, run, blind).interrupted);  // step 15, in the second one
  EXPECT_EQ(read_training_state(checkpoint_path(run, 15)).undo_step, -1);
  nll = 2;
  seeing.should_stop = nullptr;
  EXPECT_EQ(taught.run(corpus, run, seeing).steps, 20);
  EXPECT_EQ(notes.find("are dropped"), std::string::npos) << notes;
}

TEST(Train, ACheckpointThatIsDueWhereAStageEndsIsWritten) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Taught taught;
  taught.options.checkpoint_every = 64 * 5;
  taught.options.keep = 100;
  taught.run(corpus, run);
  for (const int64_t step : {5, 10, 15, 20}) EXPECT_TRUE(std::filesystem::exists(checkpoint_path(run, step))) << step;
}

// Who starts anew keeps the old run until the new one is known to work.
TEST(Train, AnOldRunStaysWhereTheNewOneCannotBegin) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Model model = byte_model(MixerKind::supra);
  train(model, nullptr, corpus, small_run(), run);
  TrainOptions frozen = small_run();
  frozen.freeze = {"*"};
  EXPECT_NE(complaint([&] { train(model, nullptr, corpus, frozen, run); }), "");
  EXPECT_EQ(latest_checkpoint(run), checkpoint_path(run, 20));
  TrainHooks hooks;
  hooks.validate = [](int64_t) -> double { fail("no text"); };
  EXPECT_EQ(complaint([&] { train(model, nullptr, corpus, small_run(), run, hooks); }), "no text");
  EXPECT_EQ(latest_checkpoint(run), checkpoint_path(run, 20));
}

// More tokens make the first stage longer; a run that is in the second one stays there, and its learning rate falls on.
TEST(Train, MoreTokensLeaveTheLearningRateWhereItWas) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Taught taught;
  std::vector<TrainStep> steps;
  TrainHooks hooks;
  hooks.on_step = [&](const TrainStep& step) { steps.push_back(step); };
  taught.options.warmup = 0.2;
  taught.run(corpus, run, hooks);
  taught.options.resume = true;
  taught.options.tokens *= 5;
  steps.clear();
  taught.run(corpus, run, hooks);
  ASSERT_EQ(steps.size(), 80u);
  EXPECT_GT(steps[0].lr, 0.5 * taught.options.recipe.lr);
  for (size_t i = 10; i < steps.size(); i++) ASSERT_LT(steps[i].lr, steps[i - 1].lr) << i;
  for (const TrainStep& step : steps) EXPECT_GE(step.seconds_left, 0) << step.step;
}

TEST(Train, ResumesOnlyWithItsOwnTextUnlessTold) {
  const TempDir directory;
  write_file_atomically(directory.path() / "a.txt", pattern_text(30));
  write_file_atomically(directory.path() / "b.txt", std::string(pattern_text(30)).replace(0, 5, "a cow"));
  const auto corpus_of = [&](const char* first, const char* second) {
    return read_corpus({directory.path() / first, directory.path() / second}, *load_tokenizer("bytes"), "<end>");
  };
  const Corpus corpus = corpus_of("a.txt", "b.txt"), turned = corpus_of("b.txt", "a.txt");
  ASSERT_EQ(corpus.tokens(), turned.tokens());
  const Path run = directory.path() / "run";
  for (const Packing packing : {Packing::stream, Packing::carried}) {
    Model model = byte_model(MixerKind::supra);
    TrainOptions o = small_run();
    o.packing = packing;
    train_and_stop(model, corpus, o, run, 9);
    o.resume = true;
    const std::string refused = complaint([&] { train(model, nullptr, turned, o, run); });
    EXPECT_NE(refused.find("the same files in another order"), std::string::npos) << refused;
    EXPECT_NE(refused.find("--accept-changes"), std::string::npos) << refused;
    o.accept_changes = true;
    std::string notes;
    TrainHooks hooks;
    hooks.on_note = [&](const std::string& line) { notes += line + "\n"; };
    EXPECT_EQ(train(model, nullptr, turned, o, run, hooks).steps, 20);
    EXPECT_NE(notes.find("other text from here on"), std::string::npos) << notes;
    // from then on it is a run of that text
    o.accept_changes = false;
    EXPECT_EQ(complaint([&] { train(model, nullptr, turned, o, run); }), "");
  }
}

TEST(Train, ResumesOnlyWithItsOwnProducts) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Model model = byte_model(MixerKind::supra);
  TrainOptions o = small_run();
  {
    const UseProducts rounded(Products::bf16);
    train_and_stop(model, corpus, o, run, 9);
  }
  o.resume = true;
  const std::string refused = complaint([&] { train(model, nullptr, corpus, o, run); });
  EXPECT_NE(refused.find("was made with --products bf16, this run has f32"), std::string::npos) << refused;
  o.accept_products = true;
  std::string notes;
  TrainHooks hooks;
  hooks.on_note = [&](const std::string& line) { notes += line + "\n"; };
  EXPECT_EQ(train(model, nullptr, corpus, o, run, hooks).steps, 20);
  EXPECT_NE(notes.find("products are f32 from here on, bf16 before"), std::string::npos) << notes;
  EXPECT_EQ(read_training_state(*latest_checkpoint(run)).facts.products, "f32");
}

TEST(Train, ResumesOnlyByItsOwnRecipe) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  const Model teacher = byte_model(MixerKind::softmax);
  Model student = linearize(teacher, {}).model;
  teacher.decoder->visit([](const std::string&, Var& parameter) { parameter = Var(parameter.value()); });
  TrainOptions o = small_run();
  o.recipe.kind = RecipeKind::distill;
  int64_t asked = 0;
  TrainHooks hooks;
  hooks.should_stop = [&] { return asked++ == 4; };
  ASSERT_TRUE(train(student, teacher.decoder.get(), corpus, o, run, hooks).interrupted);
  o.resume = true;
  o.recipe.kind = RecipeKind::supra;
  const std::string refused = complaint([&] { train(student, nullptr, corpus, o, run); });
  EXPECT_NE(refused.find("was made with --recipe distill, this run has supra"), std::string::npos) << refused;
  EXPECT_NE(refused.find("supra uptrain " + checkpoint_path(run, 4).string()), std::string::npos) << refused;

  // a checkpoint of an older version says nothing about recipe and text: it is taken as it is
  const Path file = checkpoint_path(run, 4) / "training.json";
  Json json = Json::load(file), older = Json::object();
  for (const auto& [name, value] : json.as_object()) {
    if (name != "recipe" && name != "corpus" && name != "undo_step" && name != "held_out" && name != "valid_tokens") older.set(name, value);
  }
  write_file_atomically(file, older.dump());
  std::string notes;
  hooks.should_stop = nullptr;
  hooks.on_note = [&](const std::string& line) { notes += line + "\n"; };
  o.recipe.kind = RecipeKind::distill;
  // it counted no ends of documents: the same text has another size now
  const Corpus longer = pattern_corpus(directory, 61);
  const std::string other = complaint([&] { train(student, teacher.decoder.get(), longer, o, run); });
  EXPECT_NE(other.find("by an older version, for which documents had no end"), std::string::npos) << other;
  EXPECT_EQ(train(student, teacher.decoder.get(), corpus, o, run, hooks).steps, 20);
  EXPECT_NE(notes.find("an older version wrote it"), std::string::npos) << notes;
}

// A first stage that was left out when the run resumed would pass for the one behind it.
TEST(Train, ResumesOnlyInTheStageItWasIn) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Taught taught;
  int64_t asked = 0;
  TrainHooks hooks;
  hooks.should_stop = [&] { return asked++ == 5; };
  ASSERT_TRUE(taught.run(corpus, run, hooks).interrupted);
  taught.options.resume = true;
  taught.options.recipe.transfer_share = 0;
  const std::string refused = complaint([&] { taught.run(corpus, run); });
  EXPECT_NE(refused.find("is in stage transfer, this run would continue with stage text"), std::string::npos) << refused;
  taught.options.recipe.transfer_share = 0.6;
  EXPECT_EQ(complaint([&] { taught.run(corpus, run); }), "");
}

// The best checkpoint can only be known where each was measured.
TEST(Train, EveryCheckpointIsValidated) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Model model = byte_model(MixerKind::supra);
  TrainOptions o = small_run();
  o.checkpoint_every = 64 * 3;
  o.validate_every = 64 * 5;
  o.keep = 100;
  TrainHooks hooks;
  // the best is in the middle
  int64_t step = 0;
  hooks.on_step = [&](const TrainStep& s) { step = s.step; };
  hooks.validate = [&](int64_t) { return 1 + std::fabs(static_cast<double>(step) - 8); };
  train(model, nullptr, corpus, o, run, hooks);
  for (const int64_t saved : {0, 3, 6, 9, 12, 15, 18, 20}) EXPECT_GE(read_training_state(checkpoint_path(run, saved)).valid_nll, 0) << saved;
  EXPECT_EQ(best_checkpoint(run), checkpoint_path(run, 9));
}

// On the way a sample is scored, the same one every time, also after a resume with more tokens; in the end all.
TEST(Train, ValidatesASampleOnTheWayAndAllAtTheEnd) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  const Path run = directory.path() / "run";
  Model model = byte_model(MixerKind::supra);
  TrainOptions o = small_run();
  std::vector<int64_t> scored;
  int64_t asked = 0;
  TrainHooks hooks;
  hooks.held_out_tokens = 1'000'000;
  hooks.held_out_hash = "text";
  hooks.validate = [&](int64_t tokens) {
    scored.push_back(tokens);
    return tokens == 0 ? 7.0 : 5.0;
  };
  hooks.should_stop = [&] { return asked++ == 9; };
  train(model, nullptr, corpus, o, run, hooks);
  o.resume = true;
  o.tokens *= 100;
  const TrainResult result = train(model, nullptr, corpus, o, run, hooks);
  ASSERT_GE(scored.size(), 8u);
  EXPECT_EQ(scored.back(), 0);
  EXPECT_EQ(result.valid_nll, 7);
  EXPECT_EQ(read_training_state(result.checkpoint).valid_nll, 5);
  for (size_t i = 0; i + 1 < scored.size(); i++) EXPECT_EQ(scored[i], 2048);
  // another text, or another size: the stage is judged anew
  const size_t before = scored.size();
  o.tokens += 64;
  o.valid_tokens = 300;
  std::string notes;
  hooks.on_note = [&](const std::string& line) { notes += line + "\n"; };
  train(model, nullptr, corpus, o, run, hooks);
  EXPECT_EQ(scored[before], 300);
  EXPECT_NE(notes.find("goes on at 5.0000 nats a token, on a fixed sample, about 300 of 1000000"), std::string::npos) << notes;
}

// Where the loss rises for good, to a text of another kind, it is an outlier for some steps only.
TEST(Train, OutliersThatStayAreAccepted) {
  const TempDir directory;
  std::string text(64 * 120, 'a');
  Philox random(3);
  for (int i = 0; i < 64 * 200; i++) text += static_cast<char>(random.below(256));
  write_file_atomically(directory.path() / "text.txt", text);
  const Corpus corpus = read_corpus({directory.path() / "text.txt"}, *load_tokenizer("bytes"), "");
  Model model = byte_model(MixerKind::supra);
  TrainOptions o = small_run();
  o.tokens = 64 * 300;
  o.recipe.lr = 1e-2;
  o.schedule = Schedule::Kind::constant;
  o.outliers = 4;
  o.skip_outliers = true;
  std::vector<std::string> skipped;
  double low = 0, last = 0;
  TrainHooks hooks;
  hooks.on_note = [&](const std::string& line) {
    if (line.find("; skipped") != std::string::npos) skipped.push_back(line);
  };
  hooks.on_step = [&](const TrainStep& s) { (s.step == 110 ? low : last) = s.loss; };
  train(model, nullptr, corpus, o, directory.path() / "run", hooks);
  EXPECT_LT(low, 0.5);
  EXPECT_GT(last, 4);
  EXPECT_LT(last, 6.5);
  EXPECT_GT(skipped.size(), 5u);
  EXPECT_LT(skipped.size(), 120u) << skipped.back();
  o.outliers = 0.9;
  EXPECT_NE(complaint([&] { resolve(o, *model.decoder); }).find("--outliers 0.9"), std::string::npos);
}

TEST(Train, AShorterRunIsNotTakenForTheOldOne) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  for (int64_t steps : {20, 15, 5}) {
    Model model = byte_model(MixerKind::supra);
    TrainOptions o = small_run();
    o.tokens = 64 * steps;
    train(model, nullptr, corpus, o, directory.path() / "run", {});
    EXPECT_EQ(latest_checkpoint(directory.path() / "run")->filename(), format("step-%06ld", static_cast<long>(steps)));
    EXPECT_TRUE(same_weights(load_model(directory.path() / "run"), model));
  }
}

TEST(Train, NamesTheStepOfALossThatIsNoNumber) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  Model model = byte_model(MixerKind::supra);
  model.decoder->visit([&](const std::string& name, Var& parameter) {
    if (name == "norm.weight") parameter.value().data<float>()[0] = NAN;
  });
  try {
    train(model, nullptr, corpus, small_run(), directory.path() / "run", {});
    FAIL() << "trained on NaN";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("step 1"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(latest_checkpoint(directory.path() / "run"));
}

TEST(Train, RefusesContradictions) {
  Model model = byte_model(MixerKind::supra);
  TrainOptions o = small_run();
  o.batch_tokens = 50;
  EXPECT_THROW(resolve(o, *model.decoder), Error);
  o = small_run();
  o.tokens = 0;
  EXPECT_THROW(resolve(o, *model.decoder), Error);
  // 100 steps are meant, and would be a hundred times all
  o = small_run();
  o.warmup = 100;
  EXPECT_THROW(resolve(o, *model.decoder), Error);
  o = small_run();
  o.recipe.transfer_share = 30;
  EXPECT_THROW(resolve(o, *model.decoder), Error);
  o = small_run();
  o.recipe.kl_weight = 2;
  EXPECT_THROW(resolve(o, *model.decoder), Error);
}

// Killed at many instants, the last complete checkpoint must load; one under way is not seen.
TEST(Checkpoint, SurvivesBeingKilled) {
  const TempDir directory;
  const Corpus corpus = pattern_corpus(directory);
  set_threads(1);
  Philox random(21);
  const Path run = directory.path() / "run";
  for (int trial = 0; trial < 6; trial++) {
    const pid_t child = fork();
    if (child == 0) {
      Model model = byte_model(MixerKind::supra);
      TrainOptions o = small_run();
      o.tokens = 64 * 100000;
      o.checkpoint_every = 64;
      o.resume = latest_checkpoint(run).has_value();
      try {
        train(model, nullptr, corpus, o, run, {});
      } catch (...) {
        _exit(1);
      }
      _exit(0);
    }
    usleep(static_cast<useconds_t>(60000 + random.below(60000)));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "the child ended by itself, status " << status;
    const auto last = latest_checkpoint(run);
    if (!last) continue;
    Model model = byte_model(MixerKind::supra);
    std::vector<Trained> parameters;
    model.decoder->visit([&](const std::string& name, Var& parameter) { parameters.push_back({name, parameter}); });
    Optimizer optimizer(parameters, {});
    EXPECT_GT(load_checkpoint(*last, model, optimizer).step, 0);
  }
  EXPECT_TRUE(latest_checkpoint(run));
}

TEST(Linearize, KeepsEveryWeightAndAddsTheMaps) {
  Model teacher;
  teacher.decoder = tiny_decoder(MixerKind::softmax);
  const Linearized result = linearize(teacher, {});
  EXPECT_EQ(result.fresh.size(), 2u * 4u);
  EXPECT_EQ(result.copied_parameters, teacher.decoder->parameter_count());
  EXPECT_EQ(result.copied_parameters + result.fresh_parameters, result.model.decoder->parameter_count());
  for (const std::string& name : result.fresh) EXPECT_NE(name.find("_totrain_embed"), std::string::npos) << name;
  EXPECT_EQ(result.model.decoder->state_bytes(10), result.model.decoder->state_bytes(100000));
  EXPECT_GT(teacher.decoder->state_bytes(100000), teacher.decoder->state_bytes(10));
  // once is enough
  EXPECT_THROW(linearize(result.model, {}), Error);
}

TEST(Linearize, KeepsSoftmaxWhereAsked) {
  Model teacher;
  teacher.decoder = tiny_decoder(MixerKind::softmax);
  LinearizeOptions options;
  options.keep_softmax = {1};
  const Linearized result = linearize(teacher, options);
  EXPECT_EQ(result.model.config().mixers[0], MixerKind::supra);
  EXPECT_EQ(result.model.config().mixers[1], MixerKind::softmax);
  options.keep_softmax = {0, 1};
  EXPECT_THROW(linearize(teacher, options), Error);
  options.keep_softmax = {2};
  EXPECT_THROW(linearize(teacher, options), Error);
}

// The gain of a shared key head goes to each query head that uses it, block by block.
TEST(Linearize, RepeatsTheGainsOfKeyHeads) {
  Config config = tiny_config(MixerKind::softmax);
  config.qk_norm = QkNorm::whole;
  Model teacher;
  teacher.decoder = make_decoder(config);
  teacher.decoder->init_weights(1);
  teacher.decoder->visit([](const std::string& name, Var& parameter) {
    for (int64_t i = 0; name.ends_with("k_norm.weight") && i < parameter.numel(); i++) parameter.value().data<float>()[i] = static_cast<float>(i);
  });
  const Linearized result = linearize(teacher, {});
  int checked = 0;
  result.model.decoder->visit([&](const std::string& name, Var& parameter) {
    if (!name.ends_with("_totrain_k_norm.weight")) return;
    ASSERT_EQ(parameter.numel(), 24);
    for (int64_t i = 0; i < 24; i++) EXPECT_EQ(parameter.value().data<float>()[i], static_cast<float>(i / 12 * 6 + i % 6)) << i;
    checked++;
  });
  EXPECT_EQ(checked, 2);
}

TEST(Linearize, LaterLayersFollowTheFirst) {
  Model teacher;
  teacher.decoder = tiny_decoder(MixerKind::softmax);
  LinearizeOptions options;
  options.keep_softmax = {1};
  options.decay.kind = DecayConfig::Kind::retnet;
  const Model half = linearize(teacher, options).model;
  const Linearized whole = linearize(half, {});
  EXPECT_EQ(whole.model.config().decay.kind, DecayConfig::Kind::retnet);
  EXPECT_EQ(whole.fresh.size(), 4u);
}

TEST(Linearize, IdentityMapsAreTheIdentity) {
  Model teacher;
  teacher.decoder = tiny_decoder(MixerKind::softmax);
  for (bool per_head : {false, true}) {
    LinearizeOptions options;
    options.init = LinearizeOptions::Init::identity;
    if (per_head) options.feature_map = LinearizeOptions::FeatureMap::per_head;
    Linearized result = linearize(teacher, options);
    // a block-diagonal identity and a full one are the same map
    static Tensor first;
    const Tensor tokens = Tensor::of(std::vector<int32_t>{1, 5, 9, 60, 2, 2}, {1, 6});
    const Tensor hidden = result.model.decoder->hidden(tokens).value();
    if (per_head) expect_close(hidden, first, "per-head map");
    first = hidden;
  }
}

}  // namespace
}  // namespace supra
