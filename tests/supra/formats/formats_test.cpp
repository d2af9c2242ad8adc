#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "supra/formats/checkpoint.h"
#include "supra/formats/config/config_json.h"
#include "supra/formats/parameters.h"
#include "supra/model.h"
#include "tests/fuzz_formats.h"
#include "tests/supra/formats/peak_memory.h"
#include "tests/small_files.h"
#include "tests/support.h"
#include "tests/tiny_model.h"

// Files that are cut short, damaged or lie: a reader gives what was stored or an Error that names the file.
// What is in good order is model_source_test's.

namespace supra {
namespace {

// A file of safetensors with this header and `bytes` zeros behind it.
std::string safetensors_text(const std::string& header, size_t bytes) {
  const uint64_t length = header.size();
  std::string text(reinterpret_cast<const char*>(&length), 8);
  return text + header + std::string(bytes, '\0');
}

NamedTensors weights_of(Decoder& decoder) {
  NamedTensors weights;
  decoder.visit([&](const std::string& name, Var& parameter) {
    weights.push_back({name, parameter.value()});
  });
  return weights;
}

void expect_said(const std::string& complaint, const std::string& part) {
  EXPECT_NE(complaint.find(part), std::string::npos) << part << " is not in: " << complaint;
}

class FormatsTest : public testing::Test {
 protected:
  Path path(const char* name) const { return directory_.path() / name; }

  // Cuts `text` at 100 places. `parse` gives a parser's complaint, which must begin with `where`.
  template <class F>
  void cut(const std::string& text, const Path& where, F parse) {
    ASSERT_EQ(parse(text), "") << "the intact file is refused";
    for (size_t i = 0; i < 100; i++) {
      const size_t size = text.size() * i / 100;
      const std::string complaint = parse(text.substr(0, size));
      EXPECT_TRUE(complaint.starts_with(where.string()))
          << "cut to " << size << " of " << text.size() << " bytes: \"" << complaint << '"';
    }
  }

  // Changes a few bytes, thousands of times; some of the copies are still valid files.
  template <class F>
  void damage(const std::string& text, const Path& where, F parse) {
    Philox random(31);
    for (int i = 0; i < 2000; i++) {
      std::string damaged = text;
      for (uint64_t k = 1 + random.below(4); k > 0; k--) {
        // most of what can go wrong stands in front
        const size_t range = random.below(2) ? damaged.size() : std::min<size_t>(damaged.size(), 300);
        damaged[random.below(range)] ^= static_cast<char>(1 + random.below(255));
      }
      const std::string complaint = parse(damaged);
      EXPECT_TRUE(complaint.empty() || complaint.starts_with(where.string())) << complaint;
    }
  }

  // What is said of a safetensors file with this header.
  std::string complaint_about(const std::string& header, size_t bytes) {
    return fuzz_safetensors(safetensors_text(header, bytes), path("x.safetensors"));
  }

  TempDir directory_;
};

TEST_F(FormatsTest, SafetensorsSurviveAbuse) {
  const Path file = path("a.safetensors");
  write_safetensors(file, {{"x", Tensor::zeros({3, 5})}, {"y", Tensor::zeros({7}, Dtype::bf16)}});
  const std::string text = read_file(file);
  const auto parse = [&](const std::string& bytes) { return fuzz_safetensors(bytes, file); };
  cut(text, file, parse);
  damage(text, file, parse);
}

TEST_F(FormatsTest, ASafetensorsHeaderCostsASmallMultipleOfItsSize) {
  const Path file = path("a.safetensors");
  std::string header = "{\"a\":[";
  while (header.size() < 2 << 20) header += "0,";
  header += "0]}";
  write_bytes(file, safetensors_text(header, 0));
  // and the mapped file itself
  expect_takes_at_most(21, header, [&] { open_safetensors(file); });
  const uint64_t announced = 100'000'001;
  write_bytes(file, {reinterpret_cast<const char*>(&announced), sizeof announced});
  std::filesystem::resize_file(file, announced + 100);
  const std::string said = complaint_of([&] { open_safetensors(file); });
  EXPECT_NE(said.find("has a header of 100000001 bytes, the format allows 100000000"), std::string::npos)
      << said;
}

TEST_F(FormatsTest, ShardedIndexSurvivesAbuse) {
  write_safetensors(path("a.safetensors"), {{"x", Tensor::zeros({3, 5})}});
  write_safetensors(path("b.safetensors"), {{"y", Tensor::zeros({7})}, {"z", Tensor::zeros({})}});
  const std::string index = R"({"metadata":{"total_size":92},)"
                            R"("weight_map":{"x":"a.safetensors","y":"b.safetensors","z":"b.safetensors"}})";
  const Path file = path("model.safetensors.index.json");
  const auto parse = [&](const std::string& bytes) { return fuzz_safetensors(bytes, file); };
  cut(index, file, parse);
  // the complaint may be about the shard that a damaged index names
  damage(index, directory_.path(), parse);
}

TEST_F(FormatsTest, Llama2cSurvivesAbuse) {
  const Path file = path("a.bin");
  const auto parse = [&](const std::string& bytes) { return fuzz_llama2c(bytes, file); };
  for (int version : {0, 1, 2}) {
    SCOPED_TRACE(version);
    const std::string text = llama2c_text(version);
    cut(text, file, parse);
    damage(text, file, parse);
    EXPECT_TRUE(parse(text + "x").starts_with(file.string()));
  }
}

TEST_F(FormatsTest, ConfigsSurviveAbuse) {
  const std::string openlm = write_openlm_config(tiny_config(MixerKind::supra)).dump(true);
  const std::string llama = R"({"model_type": "llama", "hidden_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 80, "vocab_size": 97,
    "rms_norm_eps": 1e-05, "rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4.0}})";
  for (const std::string& text : {openlm, llama}) {
    cut(text, "fuzz/config.json", fuzz_config);
    damage(text, "fuzz/config.json", fuzz_config);
  }
}

TEST_F(FormatsTest, RealCheckpointsCutAnywhereAreRefused) {
  const Path file = path("a.bin");
  for (const char* name : {"stories260K.bin", "checkpoint_v1.bin", "stories260K-q8.bin"}) {
    SKIP_WITHOUT(shared_dir() / "models/stories260K" / name);
    SCOPED_TRACE(name);
    cut(read_file(shared_dir() / "models/stories260K" / name), file,
        [&](const std::string& bytes) { return fuzz_llama2c(bytes, file); });
  }
}

TEST_F(FormatsTest, SafetensorsHeadersThatLieAreRefused) {
  struct Case {
    const char* what;
    const char* header;
    size_t bytes;
    const char* said;
  };
  const Case cases[] = {
      {"larger than its bytes", R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8,
       "does not fill"},
      {"smaller than its bytes", R"({"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,8]}})", 8,
       "does not fill"},
      {"overlap",
       R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       12, "overlaps"},
      {"hole", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})", 12, "hole"},
      {"bytes behind", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 9, "follow the last"},
      {"beyond the end", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "cut short"},
      {"backwards", R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8, "lies at bytes 8 to 0"},
      {"twice",
       R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
       2, "a"},
      {"overflow", R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0,
       "does not fill"},
      {"negative size", R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "-1"},
      {"half an offset", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0.5,4]}})", 4, "data_offsets"},
      {"one offset", R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "data_offsets"},
      {"no shape", R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", 4, "shape"},
      {"no object", R"([1])", 0, "header"},
  };
  EXPECT_EQ(complaint_about(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8), "");
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const std::string complaint = complaint_about(c.header, c.bytes);
    EXPECT_TRUE(complaint.starts_with(path("x.safetensors").string())) << complaint;
    expect_said(complaint, c.said);
  }
}

TEST_F(FormatsTest, UnknownTypesAreListedAndRefusedWhenAskedFor) {
  ASSERT_EQ(complaint_about(R"({"a":{"dtype":"Q9","shape":[1],"data_offsets":[0,4]}})", 4), "");
  const auto weights = open_safetensors(path("x.safetensors"));
  EXPECT_EQ(weights->tensors()[0].stored, "Q9");
  expect_said(complaint_of([&] { weights->get("a"); }), "Q9");
}

TEST_F(FormatsTest, HeaderLengthIsNotTrusted) {
  std::string text = safetensors_text("{}", 0);
  EXPECT_EQ(fuzz_safetensors(text, path("x.safetensors")), "");
  // longer than the file, longer than any memory
  text[0] = 3;
  expect_said(fuzz_safetensors(text, path("x.safetensors")), "header of 3 bytes");
  for (const char top : {'\x7f', '\xff'}) {
    std::fill_n(text.begin(), 8, top);
    EXPECT_TRUE(fuzz_safetensors(text, path("x.safetensors")).starts_with(path("x.safetensors").string()));
  }
}

TEST_F(FormatsTest, ShardsStayInTheirFolder) {
  std::filesystem::create_directory(path("model"));
  const Path outside = path("outside.safetensors"), inside = path("model") / "a.safetensors",
             index = path("model") / "model.safetensors.index.json";
  for (const Path& file : {outside, inside}) write_safetensors(file, {{"x", Tensor::zeros({1})}});
  const auto complaint = [&](const std::string& map) {
    return fuzz_safetensors(R"({"weight_map":{)" + map + "}}", index);
  };
  EXPECT_EQ(complaint(R"("x":"a.safetensors")"), "");
  for (const std::string& file : {std::string("../outside.safetensors"), outside.string(),
                                  std::string("b/../../outside.safetensors"), std::string()}) {
    expect_said(complaint(R"("x":")" + file + '"'), "same folder");
  }
  expect_said(complaint(R"("x":"a.safetensors","y":"a.safetensors")"), "tensor y");
  expect_said(complaint(R"("x":"gone.safetensors")"), "gone.safetensors");
  EXPECT_NE(complaint(R"("x":"a.safetensors","x":"a.safetensors")"), "");
  EXPECT_NE(complaint(R"("x":7)"), "");
}

TEST_F(FormatsTest, StoredTensorsBearTheNamesOfTheFile) {
  for (const char* name : {"llama_gqa", "st_sharded"}) {
    SKIP_WITHOUT(shared_dir() / "golden/hf" / name);
    const ModelSource source = open_model(shared_dir() / "golden/hf" / name);
    const auto is_q = [](const TensorInfo& t) { return t.name == "model.layers.0.self_attn.q_proj.weight"; };
    EXPECT_EQ(std::count_if(source.stored.begin(), source.stored.end(), is_q), 1) << name;
    EXPECT_GT(source.stored.size(), source.weights->tensors().size()) << name;
  }
}

TEST_F(FormatsTest, AHybridComesBackAsItWas) {
  for (MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    Config config = tiny_config(mixer);
    config.mixers[1] = MixerKind::softmax;
    config.rope.layout = Rope::Layout::interleaved;
    auto decoder = make_decoder(config);
    decoder->init_weights(1);
    save_model(directory_.path(), config, weights_of(*decoder));
    const Model back = load_model(directory_.path());
    EXPECT_EQ(describe(back.config()).dump(), describe(config).dump());
    const NamedTensors before = weights_of(*decoder), after = weights_of(*back.decoder);
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); i++) {
      EXPECT_TRUE(same_bits(before[i].second, after[i].second)) << before[i].first;
    }
  }
}

TEST_F(FormatsTest, WhatIsMissingOrWrongIsNamed) {
  const Config config = tiny_config(MixerKind::supra);
  const auto decoder = tiny_decoder(MixerKind::supra);
  NamedTensors weights = weights_of(*decoder);
  save_model(directory_.path(), config, weights);
  const std::string file = path("model.safetensors"), changed = weights[3].first;
  const auto complaint = [&] {
    write_safetensors(file, weights);
    return complaint_of([&] { load_model(directory_.path()); });
  };
  EXPECT_EQ(complaint(), "");
  Tensor& tensor = weights[3].second;
  for (const float bad : {NAN, INFINITY}) {
    tensor = tensor.clone();
    tensor.data<float>()[2] = bad;
    expect_said(complaint(), file + ": tensor " + changed + " holds");
  }
  tensor = Tensor::zeros({5, 5});
  expect_said(complaint(), file + ": tensor " + changed + " is (5, 5)");
  weights.erase(weights.begin() + 3);
  expect_said(complaint(), file + ": tensor " + changed + " is missing");
}

TEST_F(FormatsTest, OtherFormatsAreRefusedByName) {
  const auto complaint = [&](const char* name) { return complaint_of([&] { open_model(path(name)); }); };
  write_bytes(path("model.gguf"), std::string_view("GGUF\3\0\0\0", 8));
  expect_said(complaint("model.gguf"), "cut short");
  write_bytes(path("pytorch_model.bin"), "PK\3\4 and so on");
  expect_said(complaint("pytorch_model.bin"), "there is no config.json in the folder of these weights");
  expect_said(complaint("nothing"), "nothing");
}

}  // namespace
}  // namespace supra
