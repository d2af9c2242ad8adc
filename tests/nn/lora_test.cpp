#include <gtest/gtest.h>

#include <map>

#include "supra/formats/weights/safetensors.h"
#include "supra/training/checkpoint.h"
#include "supra/training/train.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

const LoraConfig kLora = {3, 6, {"attention.in_proj", "attention.out_proj", "w3"}};

using WeightsByName = std::map<std::string, Tensor>;

WeightsByName weights_of(Decoder& decoder) {
  WeightsByName weights;
  decoder.visit([&](const std::string& name, Var& parameter) { weights[name] = parameter.value().clone(); });
  return weights;
}

bool same(const WeightsByName& a, const WeightsByName& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const auto& x, const auto& y) { return x.first == y.first && same_bits(x.second, y.second); });
}

bool is_factor(const std::string& name) { return name.find(".lora_") != std::string::npos; }

Tensor outputs(const Decoder& decoder) {
  std::vector<int32_t> ids(48);
  for (int32_t i = 0; i < 48; i++) ids[i] = i * 7 % 60;
  return decoder.hidden(Tensor::of(ids, {2, 24})).value();
}

TEST(Lora, ChangesNothingAtTheStart) {
  for (const MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    const auto decoder = tiny_decoder(mixer);
    const Tensor before = outputs(*decoder);
    const int64_t count = decoder->parameter_count();
    decoder->add_lora(kLora, 1);
    EXPECT_EQ(decoder->parameter_count() - count, 2 * 3 * ((24 + 48) + (24 + 24) + (40 + 24)));
    expect_close(outputs(*decoder), before, "with B = 0", 0);
    EXPECT_THROW(decoder->add_lora(kLora, 1), Error);
  }
  EXPECT_THROW(tiny_decoder(MixerKind::supra)->add_lora({3, 6, {"_totrain_embed", "no_such"}}, 1), Error);
}

TEST(Lora, MergedIsTheSameModel) {
  const auto decoder = tiny_decoder(MixerKind::supra);
  const WeightsByName plain = weights_of(*decoder);
  const Tensor before = outputs(*decoder);
  decoder->add_lora(kLora, 1);
  decoder->visit([](const std::string& name, Var& parameter) {
    if (name.ends_with("lora_b")) parameter.value().copy_from(random_normal(parameter.shape(), name.size()));
  });
  const Tensor adapted = outputs(*decoder);
  EXPECT_GT(difference(adapted, before).normalised, 0.1);
  EXPECT_TRUE(decoder->merge_lora());
  EXPECT_LT(difference(outputs(*decoder), adapted).normalised, 1e-5);
  EXPECT_EQ(decoder->config().lora, LoraConfig());
  const WeightsByName merged = weights_of(*decoder);
  ASSERT_EQ(merged.size(), plain.size());
  for (const auto& [name, weight] : plain) {
    const bool adapts = name.ends_with("in_proj.weight") || name.ends_with("out_proj.weight") || name.ends_with("w3.weight");
    EXPECT_NE(same_bits(merged.at(name), weight), adapts) << name;
  }
  EXPECT_FALSE(decoder->merge_lora());
}

Model adapted_model(const LoraConfig& lora = kLora) {
  Model model = byte_model(MixerKind::supra);
  if (lora.rank > 0) model.decoder->add_lora(lora, 2);
  return model;
}

class LoraRun : public testing::Test {
 protected:
  LoraRun() {
    std::string text;
    for (int i = 0; i < 60; i++) text += format("%s sat; %s ran.\n<end>\n", i % 2 ? "a cat" : "an owl", i % 2 ? "it" : "he");
    write_file_atomically(directory_.path() / "text.txt", text);
    corpus_ = read_corpus({directory_.path() / "text.txt"}, *load_tokenizer("bytes"), "<end>");
    options_.sequence = 32;
    options_.batch_tokens = 64;
    options_.tokens = 64 * 20;
    options_.recipe.lr = 1e-2;
  }

  TrainResult run(Model& model, const char* name, const TrainOptions& o, int64_t stop_at = -1) {
    TrainHooks hooks;
    hooks.should_stop = [&, done = int64_t{0}]() mutable { return done++ == stop_at; };
    return train(model, nullptr, corpus_, o, directory_.path() / name, hooks);
  }

  TempDir directory_;
  Corpus corpus_;
  TrainOptions options_;
};

TEST_F(LoraRun, TrainsTheFactorsAndWhatIsNewAlone) {
  const WeightsByName start = weights_of(*byte_model(MixerKind::supra).decoder);
  Model model = adapted_model();
  const TrainResult result = run(model, "run", options_);
  const auto stored = open_safetensors(result.checkpoint / "model.safetensors");
  size_t factors = 0;
  for (const TensorInfo& info : stored->tensors()) {
    const Tensor now = stored->get(info.name);
    const bool trained = is_factor(info.name) || info.name.find("_totrain_") != std::string::npos;
    factors += is_factor(info.name);
    EXPECT_NE(same_bits(now, start.contains(info.name) ? start.at(info.name) : Tensor::zeros(now.shape())), trained) << info.name;
  }
  EXPECT_EQ(factors, 2u * 2 * 3);
  // what is published is the merged model, under the names it began with; so is a checkpoint, opened as a model
  const WeightsByName end = weights_of(*model.decoder);
  EXPECT_EQ(end.size(), start.size());
  EXPECT_TRUE(same(weights_of(*load_model(directory_.path() / "run").decoder), end));
  EXPECT_TRUE(same(weights_of(*load_model(result.checkpoint).decoder), end));
  EXPECT_FALSE(std::filesystem::exists(directory_.path() / "run/merged"));
  TrainOptions o = options_;
  o.only = {"layers.0"};
  EXPECT_THROW(resolve(o, *adapted_model().decoder), Error);
}

TEST_F(LoraRun, ResumesBitForBit) {
  Model straight = adapted_model();
  run(straight, "straight", options_);
  Model broken = adapted_model();
  EXPECT_TRUE(run(broken, "broken", options_, 9).interrupted);
  TrainOptions o = options_;
  o.resume = true;
  for (const LoraConfig& other : {LoraConfig(), LoraConfig{2, 6, kLora.on}, LoraConfig{3, 6, {"attention.in_proj"}}}) {
    Model resumed = adapted_model(other);
    EXPECT_THROW(run(resumed, "broken", o), Error);
  }
  Model resumed = adapted_model();
  EXPECT_EQ(run(resumed, "broken", o).steps, 20);
  EXPECT_TRUE(same(weights_of(*resumed.decoder), weights_of(*straight.decoder)));
}

}  // namespace
}  // namespace supra
