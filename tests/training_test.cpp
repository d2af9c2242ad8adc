#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <csignal>
#include <sys/wait.h>
#include <unistd.h>

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
    options.per_head = per_head;
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
