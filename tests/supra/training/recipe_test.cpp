#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "supra/formats/weights/safetensors.h"
#include "supra/supra_attention.h"
#include "supra/training/calibrate.h"
#include "supra/training/checkpoint.h"
#include "tests/supra/training/recipe_fixture.h"
#include "tools/memory_plan.h"

namespace supra {
namespace {

TEST_F(RecipeTest, GatedMixerStartsAsSupra) {
  const Model gated = student(DecayConfig::Source::gated), learned = student(DecayConfig::Source::learned),
              supra = student(DecayConfig::Source::fixed);
  const Tensor tokens = some_tokens(2, 40, 256);
  const Tensor expected = supra.decoder->hidden(tokens).value();
  expect_close(gated.decoder->hidden(tokens).value(), expected, "gated");
  expect_close(learned.decoder->hidden(tokens).value(), expected, "learned decay");
}

TEST_F(RecipeTest, EachBringsTheLossDown) {
  for (RecipeKind kind : {RecipeKind::supra, RecipeKind::transfer, RecipeKind::distill}) {
    Model model = student();
    std::map<std::string, std::pair<double, double>> first_and_last;
    TrainHooks hooks;
    hooks.on_step = [&](const TrainStep& s) {
      first_and_last.try_emplace(s.stage, s.loss, 0).first->second.second = s.loss;
      EXPECT_GE(s.seconds_left, 0);
      EXPECT_EQ(s.seconds_left == 0, s.step == s.steps);
    };
    const TrainResult result = train(model, teacher_.decoder.get(), corpus_, options(kind), directory_.path() / "run", hooks);
    EXPECT_EQ(first_and_last.size(), kind == RecipeKind::supra ? 1u : 2u);
    for (const auto& [stage, losses] : first_and_last) EXPECT_LT(losses.second, (stage == "transfer" ? 0.95 : 0.9) * losses.first) << stage;
    EXPECT_TRUE(result.without_gradient.empty()) << result.without_gradient[0];
  }
}

TEST_F(RecipeTest, ResumesBitForBit) {
  for (RecipeKind kind : {RecipeKind::supra, RecipeKind::transfer, RecipeKind::distill}) {
    TrainOptions o = options(kind);
    o.accumulate = 2;
    o.recompute = true;
    if (kind != RecipeKind::transfer) o.packing = Packing::carried;
    Model straight = student();
    train(straight, teacher_.decoder.get(), corpus_, o, directory_.path() / "straight");
    // in the first stage, at its end, in the second
    for (int64_t at : {5, 12, 30}) {
      int64_t steps = 0;
      TrainHooks hooks;
      hooks.should_stop = [&] { return steps++ == at; };
      Model broken = student();
      EXPECT_TRUE(train(broken, teacher_.decoder.get(), corpus_, o, directory_.path() / "broken", hooks).interrupted);
      Model resumed = student();
      resumed.decoder->init_weights(99);
      TrainOptions again = o;
      again.resume = true;
      if (kind == RecipeKind::supra) {
        TrainOptions other = again;
        other.accumulate = 1;
        try {
          train(resumed, nullptr, corpus_, other, directory_.path() / "broken");
          ADD_FAILURE() << "what carried rows remember fits no other parts";
        } catch (const Error& error) {
          EXPECT_NE(std::string(error.what()).find("--accumulate"), std::string::npos) << error.what();
        }
      }
      train(resumed, teacher_.decoder.get(), corpus_, again, directory_.path() / "broken");
      EXPECT_TRUE(same_weights(resumed, straight)) << static_cast<int>(kind) << " at " << at;
    }
  }
}

// The mean loss of a long document does not depend on the pieces that it is read in: its state is carried.
TEST_F(RecipeTest, CarriedRowsRememberWhatCameBefore) {
  std::string text;
  for (int i = 0; i < 97; i++) text += static_cast<char>('a' + i * i % 23);
  write_file_atomically(directory_.path() / "long.txt", text);
  const Corpus corpus = read_corpus({directory_.path() / "long.txt"}, *teacher_.tokenizer, "");
  const Model model = student();
  for (RecipeKind kind : {RecipeKind::supra, RecipeKind::transfer, RecipeKind::distill}) {
    RecipeOptions o = options(kind).recipe;
    if (kind == RecipeKind::transfer) o.transfer_share = 1;
    const Stage stage = make_recipe(*model.decoder, teacher_.decoder.get(), o).stages[kind == RecipeKind::distill];
    const auto mean_loss = [&](int64_t pieces, bool forgets) {
      BatchLoader loader(corpus, 1, 96 / pieces, 0, Packing::carried);
      std::vector<CarriedStates> carried(1);
      double loss = 0;
      for (int64_t i = 0; i < pieces; i++) {
        if (forgets) carried = std::vector<CarriedStates>(1);
        loss += accumulate_gradients(stage, loader.next(), carried).item() / static_cast<double>(pieces);
      }
      return loss;
    };
    // the relative errors of transfer are those of each piece
    if (kind != RecipeKind::transfer) {
      EXPECT_NEAR(mean_loss(3, false), mean_loss(1, false), 2e-5 * mean_loss(1, false));
    }
    EXPECT_GT(std::fabs(mean_loss(3, true) - mean_loss(3, false)), 1e-4);
  }
}

// It knows 64 positions.
TEST_F(RecipeTest, ASoftmaxTeacherIsNotAskedBeyondItsContext) {
  TrainOptions o = options(RecipeKind::distill);
  std::string notes;
  TrainHooks hooks;
  hooks.on_note = [&](const std::string& line) { notes += line + "\n"; };
  Model model = student();
  o.packing = Packing::carried;
  o.tokens = 64 * 4;
  train(model, teacher_.decoder.get(), corpus_, o, directory_.path() / "carried", hooks);
  EXPECT_NE(notes.find("the teacher knows 64 positions: longer documents begin anew"), std::string::npos) << notes;
  // a checkpoint has the steps of the teacher's KV cache that were written, not all that it has room for
  o.tokens = o.batch_tokens;
  const TrainResult first = train(model, teacher_.decoder.get(), corpus_, o, directory_.path() / "first", hooks);
  const auto carried = open_safetensors(first.checkpoint / "memory.safetensors");
  const Tensor keys = carried->get("part0.teacher.layers.0.state.0"), positions = carried->get("part0.teacher.positions");
  const int64_t* position = positions.data<int64_t>();
  EXPECT_EQ(keys.dim(1), *std::max_element(position, position + positions.numel()));
  o.tokens = 64 * 4;
  o.packing = Packing::stream;
  o.sequence = o.batch_tokens = 65;
  EXPECT_THROW(train(model, teacher_.decoder.get(), corpus_, o, directory_.path() / "long"), Error);
  o.recipe.kind = RecipeKind::supra;
  EXPECT_NO_THROW(train(model, nullptr, corpus_, o, directory_.path() / "text"));
}

TEST_F(RecipeTest, GoesOnWithLargerAndSmallerBatches) {
  for (int64_t batch : {32, 96, 256}) {
    TrainOptions o = options(RecipeKind::distill);
    int64_t steps = 0;
    TrainHooks stopping, going_on;
    stopping.should_stop = [&] { return steps++ == 20; };
    Model broken = student(), resumed = student();
    const int64_t done = train(broken, teacher_.decoder.get(), corpus_, o, directory_.path() / "broken", stopping).tokens;
    std::string notes;
    std::vector<TrainStep> rest;
    going_on.on_note = [&](const std::string& line) { notes += line + "\n"; };
    going_on.on_step = [&](const TrainStep& step) { rest.push_back(step); };
    o.resume = true;
    o.batch_tokens = batch;
    const TrainResult result = train(resumed, teacher_.decoder.get(), corpus_, o, directory_.path() / "broken", going_on);
    EXPECT_NE(notes.find(format("batches of %ld tokens", static_cast<long>(batch))), std::string::npos) << notes;
    ASSERT_FALSE(rest.empty());
    EXPECT_EQ(rest.front().step, 21);
    EXPECT_EQ(rest.front().tokens, done + batch);
    EXPECT_EQ(rest.back().step, rest.back().steps);
    EXPECT_EQ(result.tokens, rest.back().tokens);
    EXPECT_LT(std::abs(result.tokens - o.tokens), batch);
    // where the schedule ends is where the tokens do
    EXPECT_LT(rest.back().lr, 0.2 * o.recipe.lr);
    o.packing = Packing::carried;
    EXPECT_THROW(train(resumed, teacher_.decoder.get(), corpus_, o, directory_.path() / "broken"), Error);
  }
}

TEST_F(RecipeTest, RecomputingGivesTheSameBits) {
  std::vector<Model> results;
  for (bool recompute : {false, true}) {
    TrainOptions o = options(RecipeKind::distill);
    o.recompute = recompute;
    Model model = student();
    train(model, teacher_.decoder.get(), corpus_, o, directory_.path() / "run");
    results.push_back(model);
  }
  EXPECT_TRUE(same_weights(results[0], results[1]));
}

TEST_F(RecipeTest, MicroBatchesEqualOneBatch) {
  for (RecipeKind kind : {RecipeKind::supra, RecipeKind::distill}) {
    Model model = student();
    RecipeOptions o = options(kind).recipe;
    o.transfer_share = 0;
    const Recipe recipe = make_recipe(*model.decoder, teacher_.decoder.get(), o);
    Batch batch{some_tokens(4, 24, 256), some_tokens(4, 24, 256, 9), {{}, {5, 9}, {}, {1}}, {24, 20, 24, 24}, {}, 0};
    // parts with different numbers of targets
    for (int64_t i = 3; i < 70; i++) batch.targets.data<int32_t>()[i] = kIgnore;
    std::vector<Tensor> once;
    for (int64_t parts : {1, 2, 4}) {
      std::vector<CarriedStates> carried(parts);
      accumulate_gradients(recipe.stages.back(), batch, carried);
      size_t i = 0;
      double squares = 0, errors = 0;
      model.decoder->visit([&](const std::string&, Var& parameter) {
        if (parts == 1) once.push_back(parameter.grad());
        const Tensor expected = once[i++], given = parameter.grad();
        for (int64_t j = 0; j < given.numel(); j++) {
          const double x = expected.data<float>()[j], error = given.data<float>()[j] - x;
          squares += x * x;
          errors += error * error;
        }
        parameter.clear_grad();
      });
      EXPECT_LT(std::sqrt(errors / squares), 1e-6) << parts;
    }
  }
}

TEST_F(RecipeTest, CalibrationFitsTheTeachersOutputs) {
  const auto error_of = [&](const Model& model, const Batch& batch) {
    RecipeOptions o;
    o.transfer_share = 1;
    CarriedStates carried;
    const double error = transfer_stage(*model.decoder, *teacher_.decoder, o).learn(batch, 0, carried).item();
    model.decoder->visit([](const std::string&, Var& parameter) { parameter.clear_grad(); });
    return error;
  };
  const Batch seen{some_tokens(8, 32, 256), some_tokens(8, 32, 256), {}, {}, {}, 0},
      other{some_tokens(8, 32, 256, 77), some_tokens(8, 32, 256), {}, {}, {}, 0};
  Model heads = student(), ridge = student();
  const double before = error_of(heads, other);
  calibrate(*heads.decoder, *teacher_.decoder, {seen}, Calibration::heads);
  calibrate(*ridge.decoder, *teacher_.decoder, {seen}, Calibration::ridge);
  EXPECT_LT(error_of(heads, other), before);
  EXPECT_LT(error_of(ridge, other), before);
  EXPECT_LT(error_of(ridge, seen), error_of(heads, seen));
  // the fit is the best there is: moving a weight does not help
  const double best = error_of(ridge, seen);
  ridge.decoder->visit([&](const std::string& name, Var& parameter) {
    if (!name.ends_with("out_proj.weight")) return;
    for (float step : {0.02f, -0.02f}) {
      parameter.value().data<float>()[5] += step;
      EXPECT_GT(error_of(ridge, seen), best - 1e-7) << name;
      parameter.value().data<float>()[5] -= step;
    }
  });
}

// However large a batch is, calibration takes it in the parts that steps are made in, and no more tokens than it was told.
TEST_F(RecipeTest, CalibrationStaysInThePlan) {
  TrainOptions o = options(RecipeKind::distill);
  o.batch_tokens = o.tokens = 32 * 256;
  o.accumulate = 64;
  o.recipe.calibrate_tokens = 32 * 128 - 5;
  Model model = student();
  const MemoryPlan plan = plan_memory(*model.decoder, teacher_.decoder.get(), resolve(o, *model.decoder));
  const size_t before = memory_stats(Device::cpu).current;
  reset_peak(Device::cpu);
  size_t peak = 0;
  std::string notes;
  TrainHooks hooks;
  hooks.on_note = [&](const std::string& line) { notes += line; };
  hooks.on_start = [&](int64_t) { peak = memory_stats(Device::cpu).peak - before; };
  hooks.should_stop = [] { return true; };
  train(model, teacher_.decoder.get(), corpus_, o, directory_.path() / "run", hooks);
  EXPECT_NE(notes.find("calibrated on 4096 tokens"), std::string::npos) << notes;
  EXPECT_LT(static_cast<int64_t>(peak), plan.peak());
}

TEST_F(RecipeTest, AStageThatMakesItWorseIsUndone) {
  Model model = student(), before = student();
  TrainOptions o = options(RecipeKind::supra);
  o.recipe.lr = 3;
  o.recipe.kind = RecipeKind::supra;
  TrainHooks hooks;
  int calls = 0;
  hooks.validate = [&](int64_t) { return static_cast<double>(++calls); };
  const TrainResult result = train(model, nullptr, corpus_, o, directory_.path() / "run", hooks);
  EXPECT_TRUE(same_weights(model, before));
  EXPECT_EQ(result.valid_nll, 1);
  EXPECT_TRUE(same_weights(load_model(directory_.path() / "run"), before));
}

TEST_F(RecipeTest, FreezesByName) {
  Model model = student(), before = student();
  TrainOptions o = options(RecipeKind::supra);
  o.only = {"_totrain_"};
  o.freeze = {"layers.1.*decay"};
  train(model, nullptr, corpus_, o, directory_.path() / "run");
  std::map<std::string, Tensor> old;
  before.decoder->visit([&](const std::string& name, Var& parameter) { old[name] = parameter.value(); });
  model.decoder->visit([&](const std::string& name, Var& parameter) {
    const bool trained = name.find("_totrain_") != std::string::npos && name.find("layers.1.attention._totrain_decay") == std::string::npos;
    EXPECT_NE(same_bits(parameter.value(), old[name]), trained) << name;
  });
}

TEST_F(RecipeTest, RefusesATeacherOfAnotherShape) {
  Model other;
  other.decoder = tiny_decoder(MixerKind::softmax);
  Model model = student();
  EXPECT_THROW(train(model, other.decoder.get(), corpus_, options(RecipeKind::distill), directory_.path() / "run"), Error);
  EXPECT_THROW(train(model, nullptr, corpus_, options(RecipeKind::distill), directory_.path() / "run"), Error);
}

}  // namespace
}  // namespace supra
