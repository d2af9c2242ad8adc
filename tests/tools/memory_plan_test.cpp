#include "tools/memory_plan.h"

#include <gtest/gtest.h>

#include <functional>

#include "supra/linearize.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

// Two steps of training take what was planned, within a tenth.
TEST(MemoryPlan, IsWhatTrainingTakes) {
  Config config = tiny_config(MixerKind::softmax);
  config.vocab = 2000;
  config.width = 128;
  config.layers = 4;
  config.mixers.assign(4, MixerKind::softmax);
  config.heads = 8;
  config.kv_heads = 4;
  config.head_dim = config.key_dim = config.value_dim = 16;
  config.mlp_width = 352;
  config.context = 256;
  Model teacher;
  teacher.decoder = make_decoder(config);
  teacher.decoder->init_weights(1);
  teacher.tokenizer = load_tokenizer("bytes");
  teacher.decoder->visit([](const std::string&, Var& parameter) { parameter = Var(parameter.value()); });
  const TempDir directory;
  write_file_atomically(directory.path() / "text.txt", std::string(20000, 'a') + std::string(20000, 'b'));
  const Corpus corpus = read_corpus({DataFile(directory.path() / "text.txt")}, *teacher.tokenizer, "");

  struct Case {
    const char* name;
    std::function<void(LinearizeOptions&)> student;
    std::function<void(TrainOptions&)> training;
  };
  const auto nothing = [](auto&) {};
  const auto gated = [](LinearizeOptions& o) {
    o.decay.source = DecayConfig::Source::gated;
    o.output_gate = true;
    o.key_dim = 32;
  };
  const Case cases[] = {
      {"supra", nothing, nothing},
      {"gated", gated, nothing},
      {"recomputed", nothing, [](TrainOptions& o) { o.recompute = true; }},
      {"accumulated", nothing, [](TrainOptions& o) { o.accumulate = 4; }},
      {"transfer", gated, [](TrainOptions& o) { o.recipe.kind = RecipeKind::transfer; }},
      {"distill", gated, [](TrainOptions& o) { o.recipe.kind = RecipeKind::distill; }},
      {"frozen", nothing, [](TrainOptions& o) { o.only = {"_totrain_"}; }},
  };
  for (const Case& c : cases) {
    LinearizeOptions options;
    c.student(options);
    Model student = linearize(teacher, options).model;
    TrainOptions o;
    o.sequence = 256;
    o.batch_tokens = 2048;
    o.tokens = 4 * o.batch_tokens;
    c.training(o);
    o = resolve(o, *student.decoder);
    const size_t others = memory_stats().current;
    const MemoryPlan plan = plan_memory(*student.decoder, teacher.decoder.get(), o);
    reset_peak();
    train(student, teacher.decoder.get(), corpus, o, directory.path() / "run");
    // the weights were there before
    const double taken = static_cast<double>(memory_stats().peak - others) + static_cast<double>(plan.weights);
    EXPECT_NEAR(static_cast<double>(plan.peak()) / taken, 1, 0.1) << c.name << ": planned " << plan.peak() << ", taken " << taken << ": weights " << plan.weights
        << ", gradients " << plan.gradients << ", moments " << plan.moments << ", activations " << plan.activations << ", loss " << plan.loss;
  }
}

// What is said when memory is out names the largest part and what makes it smaller.
TEST(MemoryPlan, AdvisesByWhatIsLargest) {
  MemoryPlan plan;
  plan.weights = 1, plan.moments = 3, plan.activations = 2;
  EXPECT_NE(plan.advice().find("moments"), std::string::npos) << plan.advice();
  plan.activations = 4;
  EXPECT_NE(plan.advice().find("activations"), std::string::npos) << plan.advice();
  EXPECT_NE(plan.advice().find("--activation-checkpointing"), std::string::npos) << plan.advice();
  plan.recomputed = 1;
  EXPECT_EQ(plan.advice().find("--activation-checkpointing"), std::string::npos) << plan.advice();
}

}  // namespace
}  // namespace supra
