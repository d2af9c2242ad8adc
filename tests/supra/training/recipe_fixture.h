#pragma once
#include <gtest/gtest.h>

#include <algorithm>

#include "supra/linearize.h"
#include "supra/training/train.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {

inline Tensor some_tokens(int64_t B, int64_t T, int64_t vocab, uint64_t seed = 4) {
  Philox random(seed);
  const Tensor tokens = Tensor::empty({B, T}, Dtype::i32);
  for (int64_t i = 0; i < tokens.numel(); i++) tokens.data<int32_t>()[i] = static_cast<int32_t>(random.below(vocab));
  return tokens;
}

// A softmax teacher of bytes, which was trained a little: random ones have nothing to teach.
class RecipeTest : public testing::Test {
 protected:
  explicit RecipeTest(int64_t layers = 2) {
    Config config = tiny_config(MixerKind::softmax);
    config.vocab = 256;
    config.layers = layers;
    config.mixers.assign(layers, MixerKind::softmax);
    teacher_.decoder = make_decoder(config);
    teacher_.decoder->init_weights(5);
    teacher_.tokenizer = load_tokenizer("bytes");
    std::string text;
    for (int i = 0; i < 80; i++) {
      const char* who[] = {"a cat", "a dog", "an owl"};
      text += format("%s sat; %s ran.\n<end>\n", who[i % 3], who[(i / 3) % 3]);
    }
    write_file_atomically(directory_.path() / "text.txt", text);
    corpus_ = read_corpus({directory_.path() / "text.txt"}, *teacher_.tokenizer, "<end>");
    TrainOptions o = options(RecipeKind::supra);
    o.tokens = 64 * 60;
    o.recipe.lr = 1e-2;
    train(teacher_, nullptr, corpus_, o, directory_.path() / "teacher");
    teacher_ = load_model(directory_.path() / "teacher", "", Weights::stored);
  }

  Model student(DecayConfig::Source source = DecayConfig::Source::gated) const {
    LinearizeOptions o;
    o.init = LinearizeOptions::Init::identity;
    o.decay.source = source;
    return linearize(teacher_, o).model;
  }

  static TrainOptions options(RecipeKind kind) {
    TrainOptions o;
    o.recipe.kind = kind;
    o.recipe.lr = 2e-3;
    o.recipe.transfer_lr = 5e-3;
    o.recipe.calibrate_tokens = 256;
    o.sequence = 32;
    o.batch_tokens = 64;
    o.tokens = 64 * 40;
    o.seed = 7;
    return o;
  }

  TempDir directory_;
  Model teacher_;
  Corpus corpus_;
};

inline std::vector<Tensor> weights_of(const Model& model) {
  std::vector<Tensor> weights;
  model.decoder->visit([&](const std::string&, Var& parameter) { weights.push_back(parameter.value().clone()); });
  return weights;
}

inline bool same_weights(const Model& a, const Model& b) {
  const auto x = weights_of(a), y = weights_of(b);
  return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(), same_bits);
}

}  // namespace supra
