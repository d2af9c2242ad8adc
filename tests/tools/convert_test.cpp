#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "supra/evaluation/verify.h"
#include "supra/formats/checkpoint.h"
#include "supra/formats/config/config_json.h"
#include "supra/formats/export/hf_export.h"
#include "supra/formats/model_source.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/formats/weights/torch_file.h"
#include "supra/formats/export/transformers_export.h"
#include "supra/model.h"
#include "tensor/quantized.h"
#include "tests/golden_hf.h"
#include "tests/support.h"
#include "tests/tiny_model.h"
#include "tools/command.h"

namespace supra {
namespace {

// supra convert, as the command line does it.
void convert(const Path& model, const Path& output, std::vector<std::string> more) {
  std::vector<std::string> words = {model.string(), "-o", output.string()};
  words.insert(words.end(), more.begin(), more.end());
  Args args("convert", "", words);
  testing::internal::CaptureStdout();
  try {
    run_convert(args);
  } catch (const Error&) {
    testing::internal::GetCapturedStdout();
    throw;
  }
  testing::internal::GetCapturedStdout();
}

void expect_same_weights(const ModelSource& a, const ModelSource& b) {
  ASSERT_EQ(a.weights->tensors().size(), b.weights->tensors().size());
  for (const TensorInfo& info : a.weights->tensors()) {
    Tensor x = a.weights->get(info.name), y = b.weights->get(info.name);
    if (is_quantized(x.dtype())) x = x.to(Dtype::f32);
    EXPECT_TRUE(same_bits(x, y)) << info.name;
  }
}

using Described = std::map<std::string, std::pair<Shape, Dtype>>;
Described described(const Path& safetensors) {
  Described all;
  const auto file = open_safetensors(safetensors);
  for (const TensorInfo& info : file->tensors()) all[info.name] = {info.shape, info.dtype};
  return all;
}

// Every model of golden/hf, written out: it gives the golden values again, the weights have the same bits, and where the
// case is a file of transformers itself, names, shapes, dtypes and the keys of its config are transformers'.
TEST(Convert, HuggingFaceModelsComeOutAsTransformersWritesThem) {
  SKIP_WITHOUT(shared_dir() / "golden/hf");
  SKIP_WITHOUT(shared_dir() / "golden/hf2");
  // what v4 of transformers wrote beside the weights, or under other names
  const std::vector<std::string> other_names = {"st_tied_both_stored", "v4_gpt2_hub_names", "v4_gpt_neox_parallel", "v4_llama_rope_linear"};
  for (const GoldenCase& golden : golden_hf_cases()) {
    if (!golden.loads) continue;
    const std::string name = golden.folder.filename();
    SCOPED_TRACE(name);
    const TempDir directory;
    const Path folder = golden.folder, out = directory.path() / "out";
    convert(folder, out, {"--to", "hf"});
    for (const VerifyRow& row : verify(load_model(out), folder / "golden.safetensors")) {
      EXPECT_TRUE(row.passed()) << row.key << " " << row.error;
    }
    const ModelSource before = open_model(folder), after = open_model(out);
    expect_same_weights(before, after);
    if (!std::filesystem::exists(folder / "model.safetensors")) continue;
    if (std::count(other_names.begin(), other_names.end(), name) == 0) {
      EXPECT_EQ(described(out / "model.safetensors"), described(folder / "model.safetensors"));
    }
    const Json theirs = Json::load(folder / "config.json"), ours = Json::load(out / "config.json");
    for (const Json::Member& member : theirs.as_object()) {
      // rotary scalings may be said in other words; ids of marks come from a tokenizer
      if (member.key.starts_with("rope_") || member.key.starts_with("rotary_") || member.key.ends_with("_token_id")) continue;
      const Json* value = ours.find(member.key);
      if (value) {
        EXPECT_EQ(value->dump(), member.value.dump()) << member.key;
      }
    }
  }
}

TEST(Convert, ALlama2cModelBecomesALlama) {
  const Path model = shared_dir() / "models/stories260K/stories260K.bin";
  SKIP_WITHOUT(model);
  const TempDir directory;
  const Path out = directory.path() / "out";
  convert(model, out, {"--to", "hf"});
  const Model before = load_model(model), after = load_model(out);
  EXPECT_EQ(after.config().rope.layout, Rope::Layout::half);
  ASSERT_TRUE(after.tokenizer);
  const Tensor tokens = Tensor::of(std::vector<int32_t>{1, 403, 407, 261, 378, 432, 383}, {1, 7});
  const auto logits = [&](const Model& m) { return m.decoder->logits(m.decoder->hidden(tokens)).value(); };
  EXPECT_LE(difference(logits(after), logits(before).to(Dtype::f64)).largest, 1e-4);
}

TEST(Convert, SupraModelsGoToOpenLmAndNowhereElse) {
  const TempDir directory;
  Config config = tiny_config(MixerKind::supra);
  const auto decoder = make_decoder(config);
  decoder->init_weights(5);
  Model model;
  model.decoder = decoder;
  model.tokenizer = load_tokenizer("bytes");
  config = model.config();
  const Path folder = directory.path() / "model", out = directory.path() / "out";
  std::filesystem::create_directory(folder);
  NamedTensors weights;
  decoder->visit([&](const std::string& name, Var& parameter) { weights.emplace_back(name, parameter.value()); });
  save_model(folder, config, weights);
  EXPECT_THROW(convert(folder, out, {"--to", "hf"}), Error);
  EXPECT_FALSE(std::filesystem::exists(out));
  convert(folder, out, {"--to", "openlm", "--dtype", "bf16"});
  const ModelSource back = open_model(out);
  EXPECT_EQ(describe(back.config).dump(), describe(config).dump());
  const auto torch = open_torch_file(out / "model.pt");
  ASSERT_EQ(torch->tensors().size(), weights.size());
  for (const auto& [name, tensor] : weights) {
    EXPECT_TRUE(same_bits(back.weights->get(name), tensor.to(Dtype::bf16))) << name;
    EXPECT_TRUE(same_bits(torch->get(name), tensor.to(Dtype::bf16))) << name;
  }
}

// What loads strictly finds its second names.
TEST(Convert, OpenLmFindsWeightsUnderBothOfTheirNames) {
  for (const bool bias : {false, true}) {
    const TempDir directory;
    // a recurrent model of OpenLM has no biases
    Config config = tiny_config(bias ? MixerKind::softmax : MixerKind::supra);
    config.tied = true;
    config.mlp = MlpKind::gelu;
    config.mlp_width = 4 * config.width;
    config.mlp_bias = bias;
    Model model;
    model.decoder = stirred_decoder(config);
    save_model(model, directory.path() / "model");
    convert(directory.path() / "model", directory.path() / "out", {"--to", "openlm"});
    const auto torch = open_torch_file(directory.path() / "out/model.pt");
    const auto same = [&](const std::string& a, const std::string& b) { EXPECT_TRUE(same_bits(torch->get(a), torch->get(b))) << a; };
    same("output.weight", "tok_embeddings.weight");
    for (const std::string part : {".weight", ".bias"}) {
      if (part == ".bias" && !bias) continue;
      same("layers.1.feed_forward.0" + part, "layers.1._ff_w1" + part);
      same("layers.1.feed_forward.2" + part, "layers.1._ff_w2" + part);
    }
  }
}

TEST(Convert, APackedModelIsAllInOneFile) {
  const TempDir directory;
  Model model = byte_model(MixerKind::supra);
  Config config = model.config();
  // rows that can be quantised
  config.width = 32;
  config.mlp_width = 64;
  model.decoder = make_decoder(config);
  model.decoder->init_weights(5);
  quantize(*model.decoder, Dtype::q8_0);
  save_model(model, directory.path() / "model", std::nullopt);
  const Path file = directory.path() / "model.supra";
  convert(directory.path() / "model", file, {"--to", "packed"});
  const ModelSource packed = open_model(file), before = open_model(directory.path() / "model");
  EXPECT_EQ(describe(packed.config).dump(), describe(before.config).dump());
  EXPECT_TRUE(packed.unexpected.empty());
  ASSERT_EQ(packed.stored.size(), before.stored.size());
  for (const TensorInfo& info : before.weights->tensors()) {
    EXPECT_TRUE(same_bits(packed.weights->get(info.name), before.weights->get(info.name))) << info.name;
  }
  ASSERT_TRUE(find_tokenizer(file));
  EXPECT_STREQ(find_tokenizer(file)->kind(), model.tokenizer->kind());
  EXPECT_STREQ(load_tokenizer(file)->kind(), model.tokenizer->kind());
  // a folder that is not there is made; one that is, is no file
  convert(directory.path() / "model", directory.path() / "new/folder/model.supra", {"--to", "packed"});
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "new/folder/model.supra"));
  std::filesystem::create_directory(directory.path() / "empty");
  EXPECT_THROW(convert(directory.path() / "model", directory.path() / "empty", {"--to", "packed"}), Error);
}

// What linear_open_lm cannot compute is refused by name, before anything is written; the rest says so in its
// own keys.
TEST(Convert, OpenLmGetsNoLayersThatItDoesNotKnow) {
  const std::map<std::string, std::string> refused = {
      {"per_head_map", "per_head_feature_map true"},
      {"learned_decay", "decay.source \"learned\""},
      {"gated", "decay.source \"gated\""},
      {"denominator", "output_norm \"denominator\""},
      {"output_gate_without_norm", "output_norm \"none\", output_gate true"},
      {"rope_before_map", "rope_before_map true"},
      {"wide_keys", "key_dim 12"},
      {"norm_per_head", "qk_norm \"per_head\""},
      {"t2r", "per_head_feature_map true, rope_before_map true"},
      {"everything", "decay.source \"gated\", output_gate true"},
      {"everything_one_map", "decay.source \"gated\", output_gate true"},
      {"clipped", "residual \"one_norm\", turns [\"rope\", \"none\"], residual_scale 0.4, qkv_clip 0.8, logit_scale 0.25"},
      {"no_map_no_rope", "feature_map false, rotates false"},
      {"delta", "\"delta\""},
      {"delta_one_head_each", "\"delta\""},
      {"delta_without_rope", "\"delta\""},
      {"delta_convolution", "\"delta\""},
      {"delta_wide_keys", "\"delta\""},
      {"window", "no recurrent model with windows"},
      {"window_capped", "score_scale 0.7, score_cap 0.9, qkv_clip 1"},
      {"window_far", "no recurrent model with windows"},
      {"window_far_without_sinks", "no recurrent model with windows"}};
  size_t seen = 0;
  for (const MixerVariant& variant : mixer_variants()) {
    SCOPED_TRACE(variant.name);
    const TempDir directory;
    const Path folder = directory.path() / "model", out = directory.path() / "out";
    Model model;
    model.decoder = stirred_decoder(tiny_config(variant));
    save_model(model, folder);
    const auto complaint = [&](const char* layout) {
      try {
        convert(folder, out, {"--to", layout});
      } catch (const Error& error) {
        EXPECT_FALSE(std::filesystem::exists(out));
        return std::string(error.what());
      }
      return std::string();
    };
    if (variant.kind == MixerKind::supra) {
      EXPECT_NE(complaint("hf").find("SUPRA layers"), std::string::npos);
    }
    if (variant.kind == MixerKind::delta) {
      EXPECT_NE(complaint("hf").find("gated delta rule"), std::string::npos);
    }
    if (variant.kind == MixerKind::window) {
      EXPECT_NE(complaint("hf").find("windows with attention sinks"), std::string::npos);
    }
    const std::string said = complaint("openlm");
    const auto expected = refused.find(variant.name);
    if (expected == refused.end()) {
      EXPECT_EQ(said, "");
      // a softmax model says in keys of ours what OpenLM has no word for
      EXPECT_EQ(Json::load(out / "config.json").find("supra") != nullptr, std::string(variant.name) == "softmax_capped");
      expect_same_weights(open_model(folder), open_model(out));
    } else {
      seen++;
      EXPECT_NE(said.find(expected->second), std::string::npos) << said;
    }
  }
  EXPECT_EQ(seen, refused.size());
}

// A checkpoint of a training with --lora holds factors beside its matrices. What it becomes computes what it computes.
TEST(Convert, LowRankFactorsAreMerged) {
  for (const MixerKind mixer : {MixerKind::softmax, MixerKind::supra}) {
    const TempDir directory;
    const auto decoder = stirred_decoder(tiny_config(mixer));
    decoder->add_lora({3, 6, {"attention.in_proj", "attention.out_proj"}}, 1);
    decoder->visit([](const std::string& name, Var& parameter) {
      if (name.ends_with("lora_b")) parameter.value().copy_from(random_normal(parameter.shape(), name.size()));
    });
    Model adapted;
    adapted.decoder = decoder;
    const Path checkpoint = directory.path() / "checkpoint";
    save_model(adapted, checkpoint);
    const Tensor tokens = Tensor::of(std::vector<int32_t>{1, 40, 7, 60, 3, 3}, {1, 6});
    const auto outputs = [&](const Decoder& d) { return d.logits(d.hidden(tokens)).value(); };
    const Tensor expected = outputs(*decoder);
    for (const char* layout : {"hf", "openlm", "packed", "transformers"}) {
      if (mixer == MixerKind::supra && layout == std::string("hf")) continue;
      SCOPED_TRACE(layout);
      convert(checkpoint, directory.path() / layout, {"--to", layout});
      const Model converted = load_model(directory.path() / layout);
      EXPECT_EQ(converted.config().lora, LoraConfig());
      EXPECT_LE(difference(outputs(*converted.decoder), expected.to(Dtype::f64)).normalised, 1e-5);
      for (const TensorInfo& info : open_model(directory.path() / layout).stored)
        EXPECT_EQ(info.name.find("lora"), info.name.npos) << info.name;
    }
  }
}

Tensor logits_of(const Model& model) {
  const Tensor tokens = Tensor::of(std::vector<int32_t>{1, 40, 7, 60, 3, 3, 12, 9, 30, 2, 5, 5, 41, 0, 18, 22}, {1, 16});
  return model.decoder->logits(model.decoder->hidden(tokens)).value();
}

// Every mixer and option goes to transformers and comes back as it was. What tests/supra/formats/transformers_check.py proves is that
// modeling_supra.py computes the same.
TEST(Convert, AnyModelGoesToTransformersAndBack) {
  for (const MixerVariant& variant : mixer_variants()) {
    SCOPED_TRACE(variant.name);
    const TempDir directory;
    const Path out = directory.path() / "out";
    Model model;
    model.decoder = stirred_decoder(tiny_config(variant));
    save_model(model, directory.path() / "model");
    convert(directory.path() / "model", out, {"--to", "transformers"});
    const Json config = Json::load(out / "config.json");
    EXPECT_EQ(config.text("model_type"), "supra");
    EXPECT_EQ(config.at("auto_map").text("AutoModelForCausalLM"), "modeling_supra.SupraForCausalLM");
    EXPECT_EQ(config.text("dtype"), "float32");
    EXPECT_EQ(MappedFile(out / "modeling_supra.py").text(), modeling_supra());
    const Model back = load_model(out);
    EXPECT_EQ(describe(back.config()).dump(), describe(model.config()).dump());
    EXPECT_TRUE(same_bits(logits_of(back), logits_of(model)));
    expect_same_weights(open_model(directory.path() / "model"), open_model(out));
  }
}

// As save_pretrained() leaves a model: keys sorted, others beside ours, weights in shards and in another dtype.
TEST(Convert, WhatTransformersSavedIsReadBack) {
  const TempDir directory;
  Model model;
  model.decoder = stirred_decoder(tiny_config(MixerKind::window));
  model.tokenizer = load_tokenizer("bytes");
  save_model(model, directory.path() / "model");
  const Path saved = directory.path() / "saved";
  convert(directory.path() / "model", saved, {"--to", "transformers", "--max-shard-bytes", "9000", "--dtype", "bf16"});
  EXPECT_TRUE(std::filesystem::exists(saved / "model.safetensors.index.json"));
  EXPECT_EQ(Json::load(saved / "generation_config.json").find("eos_token_id") != nullptr, true);
  const Json config = Json::load(saved / "config.json");
  std::map<std::string, Json> sorted;
  for (const Json::Member& field : config.at("supra").as_object()) sorted.emplace(field.key, field.value);
  Json fields = Json::object(), theirs = Json::object();
  for (const auto& [key, value] : sorted) fields.set(key, value);
  theirs.set("_name_or_path", "somewhere");
  theirs.set("model_type", "supra");
  theirs.set("supra", fields);
  theirs.set("transformers_version", "5.24.0");
  std::filesystem::remove(saved / "config.json");
  write_file_atomically(saved / "config.json", theirs.dump(true));
  const ModelSource before = open_model(directory.path() / "model"), back = open_model(saved);
  EXPECT_EQ(describe(back.config).dump(), describe(before.config).dump());
  EXPECT_TRUE(back.unexpected.empty());
  for (const TensorInfo& info : before.weights->tensors())
    EXPECT_TRUE(same_bits(back.weights->get(info.name), before.weights->get(info.name).to(Dtype::bf16))) << info.name;
  ASSERT_TRUE(find_tokenizer(saved));
}

TEST(Convert, WhatIsWrongWithAFolderOfTransformersIsNamed) {
  const TempDir directory;
  Model model;
  model.decoder = stirred_decoder(tiny_config(MixerKind::supra));
  save_model(model, directory.path() / "model");
  const Path out = directory.path() / "out";
  convert(directory.path() / "model", out, {"--to", "transformers"});
  const std::string good(MappedFile(out / "config.json").text());
  const auto said_of = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    text.replace(at, from.size(), to);
    write_file_atomically(out / "config.json", text);
    try {
      open_model(out);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const struct {
    const char *from, *to, *said;
  } wrong[] = {{"\"supra\": {", "\"other\": {", "supra"},
               {"\"layers\": 2", "\"layers\": 3", "2 mixers for 3 layers"},
               {"\"layers\": 2,", "", "layers is 0, expected 1"},
               {"\"width\": 24", "\"width\": \"24\"", "width"},
               {"\"width\": 24", "\"width\": 32", "tok_embeddings.weight"},
               {"\"decay.kind\": \"lightning\"", "\"decay.kind\": \"thunder\"", "decay.kind is \"thunder\", expected one of: none lightning retnet"},
               {"\"tied\": false", "\"tied\": false, \"experts\": 8", "key experts is not known to this version"}};
  for (const auto& [from, to, expected] : wrong) {
    const std::string said = said_of(from, to);
    EXPECT_NE(said.find(expected), said.npos) << to << ": " << said;
    EXPECT_NE(said.find(out.string()), said.npos) << said;
  }
  EXPECT_EQ(said_of("x", "x"), "");
}

// It is read beside the C++.
TEST(Convert, TheCodeForTransformersIsShort) {
  const std::string_view text = modeling_supra();
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 423);
  EXPECT_TRUE(text.starts_with("# SPDX-License-Identifier: Apache-2.0\n"));
}

TEST(Convert, ALargeModelIsCutIntoShards) {
  const Path folder = shared_dir() / "golden/hf/llama_gqa";
  SKIP_WITHOUT(folder);
  const TempDir directory;
  convert(folder, directory.path() / "out", {"--to", "hf", "--max-shard-bytes", "40000"});
  EXPECT_TRUE(std::filesystem::exists(directory.path() / "out/model.safetensors.index.json"));
  expect_same_weights(open_model(folder), open_model(directory.path() / "out"));
}

}  // namespace
}  // namespace supra
