#include <algorithm>
#include <map>

#include "supra/formats/checkpoint.h"
#include "supra/formats/config_json.h"
#include "supra/formats/parameters.h"
#include "supra/model.h"
#include "tests/fuzz_formats.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

namespace supra {
namespace {

NamedTensors weights_of(Decoder& decoder) {
  NamedTensors weights;
  decoder.visit([&](const std::string& name, Var& parameter) { weights.push_back({name, parameter.value()}); });
  return weights;
}

// A file of safetensors with this header and `bytes` zeros behind it.
std::string safetensors_text(const std::string& header, size_t bytes) {
  const uint64_t length = header.size();
  std::string text(reinterpret_cast<const char*>(&length), 8);
  return text + header + std::string(bytes, '\0');
}

// A llama2.c file of a tiny model.
std::string llama2c_text(int version) {
  const int32_t d = 8, hidden = 16, layers = 1, heads = 2, kv_heads = 1, vocab = 12, context = 4;
  const int32_t sizes[] = {d, hidden, layers, heads, kv_heads, vocab, context};
  const int32_t kv = d / heads * kv_heads;
  const int64_t norms = layers * 2 * d + d, matrices = layers * (2 * d * d + 2 * kv * d + 3 * hidden * d) + vocab * d;
  std::string text;
  const auto put = [&](const void* p, size_t n) { text.append(static_cast<const char*>(p), n); };
  if (version > 0) {
    const uint32_t magic = 0x616b3432;
    put(&magic, 4);
    put(&version, 4);
  }
  put(sizes, sizeof sizes);
  if (version > 0) {
    text += '\1';
    const int32_t group = 4;
    if (version == 2) put(&group, 4);
    text.resize(256);
  }
  const int64_t floats = version == 2 ? norms + matrices / 4 : norms + matrices + (version == 0 ? context * d / heads : 0);
  text.resize(text.size() + static_cast<size_t>(4 * floats + (version == 2 ? matrices : 0)));
  return text;
}

class FormatsTest : public testing::Test {
 protected:
  TempDir directory;
  Path path(const char* name) const { return directory.path() / name; }

  // Every truncation at 100 places, and thousands of damaged copies: an Error that names the file, or nothing.
  template <class F>
  void abuse(const std::string& text, F parse) {
    ASSERT_EQ(parse(text), "") << "the intact file is refused";
    for (size_t i = 0; i < 100; i++) {
      const size_t size = text.size() * i / 100;
      const std::string complaint = parse(text.substr(0, size));
      EXPECT_NE(complaint, "") << "cut to " << size << " bytes of " << text.size();
    }
    Philox random(31);
    for (int i = 0; i < 3000; i++) {
      std::string damaged = text;
      for (uint64_t k = 1 + random.below(4); k > 0; k--) {
        // most of what can go wrong stands in front
        const size_t range = random.below(2) ? damaged.size() : std::min<size_t>(damaged.size(), 300);
        damaged[random.below(range)] = static_cast<char>(random.below(256));
      }
      parse(damaged);
    }
  }
};

TEST_F(FormatsTest, SafetensorsSurviveAbuse) {
  write_safetensors(path("a.safetensors"), {{"x", Tensor::zeros({3, 5})}, {"y", Tensor::zeros({7}, Dtype::bf16)}});
  abuse(read_file(path("a.safetensors")), [&](const std::string& text) {
    const std::string complaint = fuzz_safetensors(text, path("cut.safetensors"));
    EXPECT_TRUE(complaint.empty() || complaint.find("cut.safetensors") != std::string::npos) << complaint;
    return complaint;
  });
}

TEST_F(FormatsTest, Llama2cSurvivesAbuse) {
  for (int version : {0, 1, 2}) {
    SCOPED_TRACE(version);
    abuse(llama2c_text(version), [&](const std::string& text) {
      const std::string complaint = fuzz_llama2c(text, path("cut.bin"));
      EXPECT_TRUE(complaint.empty() || complaint.find("cut.bin") != std::string::npos) << complaint;
      return complaint;
    });
    EXPECT_NE(fuzz_llama2c(llama2c_text(version) + "x", path("long.bin")), "");
  }
}

TEST_F(FormatsTest, ConfigsSurviveAbuse) {
  abuse(write_openlm_config(tiny_config(MixerKind::supra)).dump(true), [&](const std::string& text) { return fuzz_config(text); });
}

TEST_F(FormatsTest, SafetensorsHeadersThatLieAreRefused) {
  const auto complaint = [&](const std::string& header, size_t bytes) {
    return fuzz_safetensors(safetensors_text(header, bytes), path("x.safetensors"));
  };
  EXPECT_EQ(complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), "");
  // the shape does not fill the bytes
  EXPECT_NE(complaint(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8), "");
  // overlap, hole, beyond the end, backwards
  EXPECT_NE(complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), "");
  EXPECT_NE(complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12), "");
  EXPECT_NE(complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4), "");
  EXPECT_NE(complaint(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8), "");
  // twice, overflowing, negative
  EXPECT_NE(complaint(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2), "");
  EXPECT_NE(complaint(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0), "");
  EXPECT_NE(complaint(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4), "");
  // of a type that the project has not: listed, and refused when it is asked for
  EXPECT_EQ(complaint(R"({"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,4]}})", 4), "");
  EXPECT_THROW(open_safetensors(path("x.safetensors"))->get("a"), Error);
  // a header longer than the file, longer than any memory
  std::string text = safetensors_text("{}", 0);
  text[0] = 100;
  EXPECT_NE(fuzz_safetensors(text, path("x.safetensors")), "");
  std::fill_n(text.begin(), 8, '\xff');
  EXPECT_NE(fuzz_safetensors(text, path("x.safetensors")), "");
  EXPECT_NE(fuzz_safetensors("", path("x.safetensors")), "");
}

TEST_F(FormatsTest, ShardsStayInTheirFolder) {
  write_safetensors(path("outside.safetensors"), {{"x", Tensor::zeros({1})}});
  std::filesystem::create_directory(path("model"));
  const Path index = path("model") / "model.safetensors.index.json";
  write_bytes(index, R"({"weight_map":{"x":"../outside.safetensors"}})");
  EXPECT_NE(complaint_of([&] { open_safetensors(index); }), "");
  write_safetensors(path("model") / "a.safetensors", {{"x", Tensor::zeros({1})}});
  write_bytes(index, R"({"weight_map":{"x":"a.safetensors"}})");
  EXPECT_EQ(complaint_of([&] { open_safetensors(index)->get("x"); }), "");
  write_bytes(index, R"({"weight_map":{"x":"a.safetensors","y":"a.safetensors"}})");
  EXPECT_NE(complaint_of([&] { open_safetensors(index); }), "");
  write_bytes(index, R"({"weight_map":{"x":"gone.safetensors"}})");
  EXPECT_NE(complaint_of([&] { open_safetensors(index); }), "");
}

// What a decoder asks for and what the formats promise is one list.
TEST_F(FormatsTest, ParametersAreThoseOfTheDecoder) {
  for (MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    for (MlpKind mlp : {MlpKind::swiglu, MlpKind::gelu, MlpKind::geglu}) {
      Config config = tiny_config(mixer);
      config.mlp = mlp;
      config.qk_norm = config.post_embed_norm = mlp == MlpKind::gelu;
      config.tied = config.per_head_feature_map = mlp == MlpKind::geglu;
      config.mixers[1] = MixerKind::softmax;
      std::map<std::string, Shape> promised, asked;
      for (const Parameter& p : parameters_of(config)) promised[p.name] = p.shape;
      make_decoder(config)->visit([&](const std::string& name, Var& p) { asked[name] = p.shape(); });
      EXPECT_EQ(promised, asked);
    }
  }
}

TEST_F(FormatsTest, AModelComesBackAsItWas) {
  for (MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    Config config = tiny_config(mixer);
    config.mixers[1] = MixerKind::softmax;
    config.rope.layout = Rope::Layout::interleaved;
    auto decoder = make_decoder(config);
    decoder->init_weights(1);
    save_model(directory.path(), config, weights_of(*decoder));
    Model back = load_model(directory.path());
    EXPECT_EQ(describe(back.config()).dump(), describe(config).dump());
    const NamedTensors before = weights_of(*decoder), after = weights_of(*back.decoder);
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); i++) EXPECT_TRUE(same_bits(before[i].second, after[i].second)) << before[i].first;
  }
}

TEST_F(FormatsTest, WhatIsMissingOrWrongIsNamed) {
  const Config config = tiny_config(MixerKind::supra);
  auto decoder = make_decoder(config);
  decoder->init_weights(1);
  const auto complaint = [&](const NamedTensors& weights) {
    write_safetensors(path("model.safetensors"), weights);
    return complaint_of([&] { load_model(directory.path()); });
  };
  save_model(directory.path(), config, weights_of(*decoder));
  NamedTensors weights = weights_of(*decoder);
  EXPECT_EQ(complaint(weights), "");
  weights[3].second = weights[3].second.clone();
  weights[3].second.data<float>()[2] = NAN;
  EXPECT_NE(complaint(weights).find(weights[3].first), std::string::npos) << complaint(weights);
  weights[3].second = Tensor::zeros({5, 5});
  EXPECT_NE(complaint(weights).find(weights[3].first), std::string::npos) << complaint(weights);
  EXPECT_NE(complaint(weights).find("(5, 5)"), std::string::npos) << complaint(weights);
  const std::string gone = weights[3].first;
  weights.erase(weights.begin() + 3);
  EXPECT_NE(complaint(weights).find(gone), std::string::npos) << complaint(weights);
}

TEST_F(FormatsTest, OtherFormatsAreRefusedByName) {
  write_bytes(path("model.gguf"), "GGUF\3\0\0\0");
  EXPECT_NE(complaint_of([&] { open_model(path("model.gguf")); }).find("GGUF"), std::string::npos);
  write_bytes(path("pytorch_model.bin"), "PK\3\4 and so on");
  EXPECT_NE(complaint_of([&] { open_model(path("pytorch_model.bin")); }).find("PyTorch"), std::string::npos);
  EXPECT_NE(complaint_of([&] { open_model(path("nothing")); }).find("nothing"), std::string::npos);
}

TEST(Formats, GoldenConfigsOpenOrAreRefusedByFeature) {
  SKIP_WITHOUT(shared_dir() / "golden/hf");
  const std::map<std::string, std::string> refused = {
      {"llama_rope_llama3", "llama3"}, {"llama_attention_bias", "attention_bias"}, {"mistral_window8", "sliding_window"},
      {"qwen2_untied", "qwen2"},       {"qwen3", "qwen3"},                         {"gpt2", "gpt2"},
      {"olmo2", "olmo2"},              {"gpt_neox_parallel", "gpt_neox"}};
  for (const auto& [name, feature] : refused) {
    const std::string complaint = complaint_of([&, n = name] { open_model(shared_dir() / "golden/hf" / n); });
    EXPECT_NE(complaint.find(feature), std::string::npos) << name << ": " << complaint;
  }
  const TempDir directory;
  for (const auto& entry : std::filesystem::directory_iterator(shared_dir() / "golden/openlm")) {
    const ModelSource source = open_model(entry.path());
    NamedTensors weights;
    for (const TensorInfo& info : source.weights->tensors()) weights.push_back({info.name, source.weights->get(info.name)});
    save_model(directory.path(), source.config, weights);
    EXPECT_EQ(describe(open_model(directory.path()).config).dump(), describe(source.config).dump()) << entry.path();
  }
}

TEST(Formats, RealCheckpointsTruncatedAnywhereAreRefused) {
  const TempDir directory;
  for (const char* file : {"stories260K.bin", "checkpoint_v1.bin", "stories260K-q8.bin"}) {
    SKIP_WITHOUT(shared_dir() / "models/stories260K" / file);
    const std::string text = read_file(shared_dir() / "models/stories260K" / file);
    for (size_t i = 0; i < 100; i++) {
      EXPECT_NE(fuzz_llama2c(text.substr(0, text.size() * i / 100), directory.path() / "cut.bin"), "") << file << " " << i;
    }
  }
}

}  // namespace
}  // namespace supra
