#include <gtest/gtest.h>

#include "supra/formats/config/config_json.h"
#include "supra/inference/session.h"
#include "supra/linearize.h"
#include "tests/golden_hf.h"

namespace supra {
namespace {

struct Linearizable {
  const char* name;
  size_t notes;
};

// One model of each family, and each feature that a layer may have.
const Linearizable kModels[] = {{"llama_gqa", 0},      {"llama_attention_mlp_bias", 0}, {"llama_rope_llama3", 0},
                                {"mistral_window8", 1}, {"qwen2_tied", 0},              {"qwen2_window_from_layer1", 1},
                                {"qwen3", 1},           {"olmo2", 1},                   {"gpt_neox_parallel", 0},
                                {"gpt_neox_sequential", 0}, {"gpt2", 1},                {"gguf_q4_1", 0},
                                {"bin_strided", 0},         {"phi3", 0},                {"phi3_window", 1},
                                {"phi3_longrope_short", 2}, {"gemma2", 2},              {"gemma3", 2},
                                {"smollm3", 0},             {"granite", 0},             {"starcoder2", 0},
                                {"cohere", 0},              {"olmo", 0}};

Tensor some_tokens(int64_t factor) {
  const Tensor tokens = Tensor::zeros({1, 33}, Dtype::i32);
  for (int64_t t = 0; t < 33; t++) tokens.data<int32_t>()[t] = static_cast<int32_t>(t * t * factor % 90);
  return tokens;
}

// (B,T) ids -> logits of the chunked form, and of the recurrent one token by token
Tensor chunked(const Decoder& decoder, const Tensor& tokens) {
  NoGrad off;
  return decoder.logits(decoder.hidden(tokens)).value();
}

Tensor recurrent(const Decoder& decoder, const Tensor& tokens) {
  const int64_t T = tokens.dim(1), O = decoder.config().vocab;
  Session session(decoder);
  const Tensor all = Tensor::empty({1, T, O});
  for (int64_t t = 0; t < T; t++) all.view({T, O}).rows(t, t + 1).copy_from(session.step(std::span(tokens.data<int32_t>() + t, 1)));
  return all;
}

TEST(Families, AllBecomeRecurrentModels) {
  for (const Linearizable& known : kModels) {
    SCOPED_TRACE(known.name);
    SKIP_WITHOUT(golden_hf(known.name));
    const Model teacher = load_model(golden_hf(known.name));
    const Linearized result = linearize(teacher, {});
    const Decoder& student = *result.model.decoder;
    EXPECT_EQ(result.notes.size(), known.notes);
    EXPECT_EQ(student.config().rope.dims, teacher.config().rope.dims);
    EXPECT_EQ(student.config().residual, teacher.config().residual);

    const Tensor tokens = some_tokens(7);
    const Tensor whole = chunked(student, tokens);
    EXPECT_TRUE(all_finite(whole));
    EXPECT_LE(difference(recurrent(student, tokens), whole.to(Dtype::f64)).normalised, 2e-5);

    // every parameter learns
    backward(result.model.decoder->loss(student.hidden(tokens), tokens.view({-1}), 0));
    result.model.decoder->visit([](const std::string& name, Var& parameter) { EXPECT_TRUE(parameter.grad().defined()) << name; });

    const TempDir directory;
    save_model(result.model, directory.path() / "out");
    const Model back = load_model(directory.path() / "out");
    EXPECT_EQ(describe(back.config()).dump(), describe(student.config()).dump());
    EXPECT_TRUE(same_bits(chunked(*back.decoder, tokens), whole));
  }
}

// A feature map folded into a projection that has a bias.
TEST(Families, BiasesAreFoldedToo) {
  const Path golden = shared_dir() / "golden/hf/gpt_neox_parallel";
  SKIP_WITHOUT(golden);
  const Model teacher = load_model(golden);
  LinearizeOptions options;
  const Linearized result = linearize(teacher, options);
  const Tensor tokens = Tensor::of(std::vector<int32_t>{3, 1, 4, 1, 5, 9, 2, 6}, {1, 8});
  const Tensor whole = chunked(*result.model.decoder, tokens);
  ASSERT_TRUE(result.model.decoder->fold());
  EXPECT_LE(difference(chunked(*result.model.decoder, tokens), whole.to(Dtype::f64)).normalised, 2e-5);
}

// A softmax model with a window keeps its promise step by step as in one pass.
TEST(Families, SoftmaxModelsStepAsTheyReadAtOnce) {
  for (const Linearizable& known : kModels) {
    SCOPED_TRACE(known.name);
    SKIP_WITHOUT(golden_hf(known.name));
    const Model model = load_model(golden_hf(known.name));
    const Tensor tokens = some_tokens(11);
    EXPECT_LE(difference(recurrent(*model.decoder, tokens), chunked(*model.decoder, tokens).to(Dtype::f64)).normalised, 2e-5);
  }
}

TEST(Families, LearnedPositionsEndWithAnError) {
  const Path golden = shared_dir() / "golden/hf/gpt2";
  SKIP_WITHOUT(golden);
  const Model model = load_model(golden);
  EXPECT_THROW(model.decoder->hidden(Tensor::zeros({1, 41}, Dtype::i32)), Error);
  EXPECT_NO_THROW(model.decoder->hidden(Tensor::zeros({1, 40}, Dtype::i32)));
}

}  // namespace
}  // namespace supra
