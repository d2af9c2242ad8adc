#include <cmath>

#include "supra/evaluation/choices.h"
#include "supra/evaluation/perplexity.h"
#include "supra/evaluation/recall.h"
#include "supra/linearize.h"
#include "supra/training/calibrate.h"
#include "supra/training/teacher_cache.h"
#include "tests/gpu/cuda_support.h"
#include "tests/tiny_model.h"
#include "tools/memory_plan.h"

// Training and evaluation where the models are on the GPU.

namespace supra {
namespace {

struct Place {
  Device device = Device::cpu;
  Dtype activations = Dtype::f32;
};
constexpr Place kCpu, kGpu = {Device::cuda, Dtype::f32}, kGpuBf16 = {Device::cuda, Dtype::bf16};

class CudaTraining : public Cuda {
 protected:
  void SetUp() override {
    Cuda::SetUp();
    std::string text;
    for (int i = 0; i < 40; i++) text += format("%d cats sat; %d ran\n<end>\n", i, i * i);
    write_file_atomically(directory_.path() / "text.txt", text);
    corpus_ = read_corpus({directory_.path() / "text.txt"}, *teacher_.tokenizer, "<end>");
    teacher_.decoder->visit([](const std::string&, Var& parameter) { parameter = Var(parameter.value()); });
  }

  // Teacher and student, as they are at the beginning.
  Model teacher(Place place) const {
    Model model = teacher_;
    model.decoder = byte_model(MixerKind::softmax).decoder;
    model.decoder->visit([](const std::string&, Var& parameter) { parameter = Var(parameter.value()); });
    model.decoder->to(place.device, place.activations);
    return model;
  }
  Model student(Place place, int64_t lora = 0) const {
    LinearizeOptions o;
    o.init = LinearizeOptions::Init::identity;
    o.decay.source = DecayConfig::Source::gated;
    Model model = linearize(teacher_, o).model;
    if (lora > 0) model.decoder->add_lora({.rank = lora, .alpha = 1, .on = {"attention.in_proj"}}, 3);
    model.decoder->to(place.device, place.activations);
    return model;
  }

  static TrainOptions options(RecipeKind kind) {
    TrainOptions o;
    o.recipe.kind = kind;
    o.recipe.lr = o.recipe.transfer_lr = 2e-3;
    o.recipe.transfer_share = 0.5;
    o.recipe.calibrate_tokens = 32;
    o.sequence = 16;
    o.batch_tokens = 32;
    o.tokens = 4 * 32;
    o.accumulate = 2;
    o.recompute = true;
    o.packing = kind == RecipeKind::transfer ? Packing::documents : Packing::carried;
    o.seed = 7;
    return o;
  }

  // The losses of the steps, and the weights at the end.
  struct Outcome {
    std::vector<double> losses;
    std::vector<Tensor> weights;
  };
  Outcome run(TrainOptions o, Place place, const char* folder, int64_t stop = -1, int64_t lora = 0) const {
    Outcome outcome;
    Model model = student(place, lora);
    const Model from = teacher(place);
    int64_t steps = 0;
    TrainHooks hooks;
    hooks.should_stop = [&] { return steps++ == stop; };
    hooks.on_step = [&](const TrainStep& step) { outcome.losses.push_back(step.loss); };
    train(model, from.decoder.get(), corpus_, o, directory_.path() / folder, hooks);
    model.decoder->visit([&](const std::string&, Var& parameter) {
      outcome.weights.push_back(parameter.value().to(Device::cpu));
    });
    return outcome;
  }
  // Three steps on one device, the last on another.
  Outcome broken(TrainOptions o, Place first, Place second) const {
    Outcome begun = run(o, first, "broken", 3);
    o.resume = true;
    Outcome ended = run(o, second, "broken");
    ended.losses.insert(ended.losses.begin(), begun.losses.begin(), begun.losses.end());
    return ended;
  }
  static void expect_near(const std::vector<double>& given, const std::vector<double>& truth, double bound) {
    ASSERT_EQ(given.size(), truth.size());
    for (size_t i = 0; i < truth.size(); i++)
      EXPECT_NEAR(given[i], truth[i], bound * truth[i]) << "step " << i;
  }

  TempDir directory_;
  Model teacher_ = byte_model(MixerKind::softmax);
  Corpus corpus_;
};

}  // namespace

TEST_F(CudaTraining, resumes_bit_for_bit_and_on_the_other_device) {
  for (RecipeKind kind : {RecipeKind::supra, RecipeKind::transfer, RecipeKind::distill}) {
    SCOPED_TRACE(format("recipe %d", static_cast<int>(kind)));
    const TrainOptions o = options(kind);
    const Outcome truth = run(o, kCpu, "cpu"), straight = run(o, kGpuBf16, "gpu"),
                  again = broken(o, kGpuBf16, kGpuBf16);
    EXPECT_EQ(straight.losses, again.losses);
    for (size_t i = 0; i < straight.weights.size(); i++)
      EXPECT_TRUE(same_bits(straight.weights[i], again.weights[i])) << i;
    expect_near(straight.losses, truth.losses, 0.1);
    expect_near(broken(o, kCpu, kGpu).losses, truth.losses, 5e-3);
    expect_near(broken(o, kGpu, kCpu).losses, truth.losses, 5e-3);
  }
}

TEST_F(CudaTraining, trains_low_rank_factors) {
  TrainOptions o = options(RecipeKind::supra);
  o.accumulate = 1;
  const Outcome truth = run(o, kCpu, "cpu", -1, 2), got = run(o, kGpu, "gpu", -1, 2);
  expect_near(got.losses, truth.losses, 1e-3);
  ASSERT_EQ(got.weights.size(), truth.weights.size());
  for (size_t i = 0; i < truth.weights.size(); i++)
    EXPECT_LE(difference(got.weights[i], truth.weights[i]).normalised, 1e-2) << i;
}

TEST_F(CudaTraining, calibrates) {
  BatchLoader loader(corpus_, 4, 16, 1);
  const std::vector<Batch> batches = {loader.next(), loader.next()};
  for (Calibration kind : {Calibration::ridge, Calibration::heads}) {
    std::vector<Tensor> fitted;
    const auto keep = [&](const Model& model) {
      model.decoder->visit([&](const std::string& name, Var& parameter) {
        if (name == "layers.0.attention.out_proj.weight") fitted.push_back(parameter.value().to(Device::cpu));
      });
    };
    for (Place place : {kCpu, kGpu, kGpuBf16}) {
      const Model model = student(place);
      calibrate(*model.decoder, *teacher(place).decoder, batches, kind);
      keep(model);
    }
    keep(student(kCpu));
    EXPECT_GT(difference(fitted[3], fitted[0]).normalised, 0.1);
    EXPECT_LE(difference(fitted[1], fitted[0]).normalised, 1e-3);
    EXPECT_LE(difference(fitted[2], fitted[0]).normalised, 0.2);
  }
}

TEST_F(CudaTraining, shares_a_teachers_cache_with_the_cpu) {
  TrainOptions o = options(RecipeKind::distill);
  o.packing = Packing::documents;
  BatchLoader loader(corpus_, 2, 16, 7, o.packing);
  const Batch batch = loader.next();
  const auto loss_of = [&](Place place) {
    const Model model = student(place), from = teacher(place);
    RecipeOptions recipe;
    recipe.cache = std::make_shared<TeacherCache>(directory_.path() / "cache", *from.decoder, corpus_, 8, 16,
                                                  7, o.packing);
    CarriedStates carried;
    return distill_stage(*model.decoder, *from.decoder, recipe).learn(batch, 1, carried).item();
  };
  const double written = loss_of(kGpu), read = loss_of(kGpu), there = loss_of(kCpu);
  EXPECT_EQ(written, read);
  EXPECT_NEAR(there, read, 1e-4 * read);
}

TEST_F(CudaTraining, is_evaluated) {
  std::vector<std::vector<int32_t>> sequences = {{1, 2, 3, 4, 5, 6, 7}, {8, 9, 10}, {11, 12, 13, 14}};
  const std::vector<std::vector<Request>> items = {{{{1, 2, 3, 4}, 2}, {{1, 2, 5}, 1}}, {{{1, 7, 8, 9}, 1}}};
  const std::vector<RecallText> texts = {{{1, 2, 3, 4, 5}, {{2, 4, 1}}}};
  for (Place place : {kCpu, kGpu, kGpuBf16}) {
    const Model truth = student(kCpu), model = student(place);
    const double bound = place.activations == Dtype::f32 ? 1e-4 : 0.02,
                 nll = evaluate(*truth.decoder, sequences).nll;
    for (bool recurrent : {false, true})
      EXPECT_NEAR(evaluate(*model.decoder, sequences, recurrent).nll, nll, bound * nll);
    const auto scores = score_requests(*model.decoder, items),
               expected = score_requests(*truth.decoder, items);
    for (size_t i = 0; i < items.size(); i++) {
      for (size_t j = 0; j < items[i].size(); j++)
        EXPECT_NEAR(scores[i][j].loglik, expected[i][j].loglik, -bound * expected[i][j].loglik);
    }
    EXPECT_EQ(recalled(*model.decoder, texts)[0].right, recalled(*truth.decoder, texts)[0].right);
  }
}

TEST_F(CudaTraining, takes_the_memory_that_was_planned) {
  for (RecipeKind kind : {RecipeKind::supra, RecipeKind::distill}) {
    for (bool recompute : {false, true}) {
      TrainOptions o = options(kind);
      o.packing = Packing::stream;
      o.accumulate = 1;
      o.sequence = 32, o.batch_tokens = 256, o.tokens = 512;
      o.recipe.transfer_share = 0, o.recipe.calibrate_tokens = 0;
      o.recompute = recompute;
      Model model = student(kGpuBf16);
      const Model from = teacher(kGpuBf16);
      o = resolve(o, *model.decoder);
      const size_t others = memory_stats(Device::cuda).current;
      const MemoryPlan plan = plan_memory(*model.decoder, from.decoder.get(), o);
      reset_peak(Device::cuda);
      train(model, from.decoder.get(), corpus_, o, directory_.path() / "run");
      const double taken =
          static_cast<double>(memory_stats(Device::cuda).peak - others) + static_cast<double>(plan.weights);
      EXPECT_NEAR(static_cast<double>(plan.peak()) / taken, 1, 0.1)
          << "recipe " << static_cast<int>(kind) << ", recompute " << recompute;
    }
  }
}

}  // namespace supra
