#include "supra/formats/model_source.h"

#include <map>

#include "supra/formats/checkpoint.h"
#include "supra/formats/config/config_json.h"
#include "supra/formats/parameters.h"
#include "tests/fuzz_formats.h"
#include "tests/support.h"

// Models that others stored: configs of every family, names, stacking, types; and what we write ourselves.

namespace supra {
namespace {

namespace fs = std::filesystem;

const std::vector<const char*> kLlamas = {"llama_mha_untied",
                                          "llama_gqa",
                                          "llama_gqa_tied",
                                          "llama_head_dim",
                                          "llama_rope_linear",
                                          "mistral_no_window",
                                          "st_f16",
                                          "st_bf16",
                                          "st_mixed",
                                          "st_sharded",
                                          "st_tied_both_stored",
                                          "v4_llama_minimal_config",
                                          "v4_llama_rope_linear"};

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

Config config_of(const std::string& text) {
  const Json json = Json::parse(text, "config.json");
  std::vector<std::string> notes;
  return json.find("model_type") && json.text("model_type") != "openlm" ? read_hf_config(json)
                                                                        : read_openlm_config(json);
}

std::string config_complaint(const std::string& text) {
  return complaint_of([&] { config_of(text); });
}

NamedTensors tensors_of(const WeightReader& weights) {
  NamedTensors all;
  for (const TensorInfo& info : weights.tensors()) all.emplace_back(info.name, weights.get(info.name));
  return all;
}

// The canonical tensors are exactly those that the config asks for, in its shapes.
void expect_complete(const ModelSource& source) {
  const std::vector<Parameter> parameters = parameters_of(source.config);
  EXPECT_EQ(source.weights->tensors().size(), parameters.size());
  for (const Parameter& p : parameters) {
    const Tensor t = source.weights->get(p.name, p.shape, Dtype::f32);
    check_finite(t, p.name, source.path);
  }
  EXPECT_TRUE(source.unexpected.empty()) << source.unexpected[0];
}

// Saved and opened again: the same config, the same bits.
void expect_round_trip(const ModelSource& source) {
  const TempDir directory;
  NamedTensors weights;
  for (auto& [name, tensor] : tensors_of(*source.weights)) weights.emplace_back(name, tensor.to(Dtype::f32));
  save_model(directory.path(), source.config, weights);
  const ModelSource back = open_model(directory.path());
  EXPECT_EQ(describe(back.config).dump(), describe(source.config).dump());
  for (const auto& [name, tensor] : weights) EXPECT_TRUE(same_bits(back.weights->get(name), tensor)) << name;
  // what OpenLM itself would take from the file
  const Json json = Json::load(directory.path() / "config.json");
  EXPECT_EQ(json.integer("hidden_dim"), source.config.width);
  EXPECT_EQ(json.integer("n_heads_kv"), source.config.kv_heads);
}

TEST(ModelSource, HuggingFaceLlamasOpen) {
  for (const char* name : kLlamas) {
    SCOPED_TRACE(name);
    const Path folder = shared_dir() / "golden/hf" / name;
    SKIP_WITHOUT(folder);
    const ModelSource source = open_model(folder);
    expect_complete(source);
    expect_round_trip(source);
    EXPECT_EQ(source.config.rope.layout, Rope::Layout::half);
    EXPECT_EQ(source.config.rope.scale, contains(name, "rope_linear") ? 4 : 1);
    EXPECT_EQ(source.config.head_dim, contains(name, "head_dim") ? 20 : 12);
    EXPECT_EQ(source.config.tied, contains(name, "tied") && !contains(name, "untied"));
    const bool has_notes = contains(name, "both_stored") || contains(name, "v4_llama_rope_linear");
    EXPECT_EQ(source.notes.size(), has_notes ? 1u : 0u);
  }
}

TEST(ModelSource, QueriesKeysAndValuesAreStackedInThisOrder) {
  for (const char* name : {"llama_gqa", "st_mixed"}) {
    const Path folder = shared_dir() / "golden/hf" / name;
    SKIP_WITHOUT(folder);
    const ModelSource source = open_model(folder);
    const auto raw = open_safetensors(folder / "model.safetensors");
    const Config& c = source.config;
    const int64_t q = c.heads * c.head_dim, k = c.kv_heads * c.head_dim;
    const auto expect_rows = [&](const char* canonical, int64_t begin, int64_t end, const char* stored) {
      const Tensor part = source.weights->get(canonical).to(Dtype::f32).rows(begin, end);
      EXPECT_TRUE(same_bits(part, raw->get(stored).to(Dtype::f32))) << name << " " << stored;
    };
    const char* in_proj = "layers.1.attention.in_proj.weight";
    expect_rows(in_proj, 0, q, "model.layers.1.self_attn.q_proj.weight");
    expect_rows(in_proj, q, q + k, "model.layers.1.self_attn.k_proj.weight");
    expect_rows(in_proj, q + k, q + 2 * k, "model.layers.1.self_attn.v_proj.weight");
    const char* w12 = "layers.0.feed_forward.w12.weight";
    expect_rows(w12, 0, c.mlp_width, "model.layers.0.mlp.gate_proj.weight");
    expect_rows(w12, c.mlp_width, 2 * c.mlp_width, "model.layers.0.mlp.up_proj.weight");
    expect_rows("layers.0.feed_forward.w3.weight", 0, c.width, "model.layers.0.mlp.down_proj.weight");
  }
}

// The divisors and magnitudes of transformers 5.24 (modeling_rope_utils.py), heads of 32.
TEST(ModelSource, RotaryScalingsAreThoseOfTransformers) {
  const struct {
    const char* settings;
    double magnitude;
    std::vector<double> divisors;
  } cases[] = {
      {R"("rope_type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
          "original_max_position_embeddings": 64)",
       1, {1, 1, 1.29398, 2.76517, 7.66739, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8}},
      {R"("rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 512)",
       1.138629436, {1, 1, 1.12, 1.27273, 1.47368, 1.75, 2.15385, 2.8, 4, 4, 4, 4, 4, 4, 4, 4}},
      {R"("type": "yarn", "factor": 40, "original_max_position_embeddings": 512, "mscale": 0.7, "mscale_all_dim": 1,
          "beta_fast": 16, "beta_slow": 2)",
       0.919155995, {1, 1, 1, 1.24224, 1.63934, 2.40964, 4.54545, 40, 40, 40, 40, 40, 40, 40, 40, 40}},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.settings);
    const Rope rope = config_of(format(R"({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 10, "max_position_embeddings": 2048,
        "rope_scaling": {%s}})", c.settings)).rope;
    EXPECT_NEAR(rope.magnitude, c.magnitude, 1e-8);
    ASSERT_EQ(rope.divisors.size(), c.divisors.size());
    for (size_t i = 0; i < c.divisors.size(); i++) EXPECT_NEAR(rope.divisors[i], c.divisors[i], 1e-4 * c.divisors[i]);
  }
}

TEST(ModelSource, OpenLmModelsOpenAndComeBack) {
  const Path golden = shared_dir() / "golden/openlm";
  SKIP_WITHOUT(golden);
  for (const auto& entry : fs::directory_iterator(golden)) {
    SCOPED_TRACE(entry.path().filename());
    const ModelSource source = open_model(entry.path());
    expect_complete(source);
    expect_round_trip(source);
    const auto raw = open_safetensors(entry.path() / "model.safetensors");
    EXPECT_EQ(raw->tensors().size(), source.weights->tensors().size());
    for (const TensorInfo& info : raw->tensors()) {
      EXPECT_TRUE(same_bits(raw->get(info.name), source.weights->get(info.name))) << info.name;
    }
  }
}

TEST(ModelSource, Llama2cVersionsHoldOneModel) {
  const Path folder = shared_dir() / "models/stories260K";
  SKIP_WITHOUT(folder);
  const ModelSource v0 = open_model(folder / "stories260K.bin"),
                    v1 = open_model(folder / "checkpoint_v1.bin");
  const ModelSource v2 = open_model(folder / "stories260K-q8.bin");
  EXPECT_EQ(v0.format, "llama2.c v0");
  EXPECT_EQ(v0.config.rope.layout, Rope::Layout::interleaved);
  for (const ModelSource* source : {&v0, &v1, &v2}) {
    expect_complete(*source);
    expect_round_trip(*source);
    EXPECT_EQ(describe(source->config).dump(), describe(v0.config).dump());
  }
  for (const auto& [name, tensor] : tensors_of(*v0.weights)) {
    EXPECT_TRUE(same_bits(tensor, v1.weights->get(name))) << name;
    const Tensor coarse = v2.weights->get(name);
    for (int64_t i = 0; i < tensor.numel(); i++) {
      ASSERT_NEAR(coarse.data<float>()[i], tensor.data<float>()[i], 0.0071) << name;
    }
  }
  EXPECT_EQ(v2.weights->find("tok_embeddings.weight")->stored, "q80");
  EXPECT_EQ(v2.weights->find("norm.weight")->stored, "");
}

TEST(ModelSource, BothSpellingsOfOpenLmSayTheSame) {
  // the published mistral-supra, and what its training run was given
  const Config published =
      config_of(R"({"architectures": ["OpenLMForCausalLM"], "model_type": "openlm", "dim": 4096,
      "intermediate_dim_ffn": 14336, "n_layers": 32, "n_heads": 32, "n_heads_kv": 8, "vocab_size": 32000, "norm_eps": 1e-05,
      "seq_len": 2048, "weight_tying": false, "apply_qk_norm": false, "qk_head_dim": 128, "v_head_dim": 128,
      "norm_type": "rms_norm", "attn_name": "linear_attn", "positional_embedding_type": "rotary", "ffn_type": "swiglu",
      "use_decay": true, "use_retnet_slopes": false, "decay_start": null})");
  const Config training =
      config_of(R"({"hidden_dim": 4096, "intermediate_dim_ffn": 14336, "n_layers": 32, "n_heads": 32,
      "n_heads_kv": 8, "vocab_size": 32000, "qk_norm": false, "model_norm": "rms_norm", "attn_name": "linear_attn",
      "use_decay": true})");
  EXPECT_EQ(describe(published).dump(), describe(training).dump());
  int64_t parameters = 0;
  for (const Parameter& p : parameters_of(published)) parameters += numel(p.shape);
  // 7.812 billion, 570.6 million of them new
  EXPECT_NEAR(static_cast<double>(parameters), 7.812e9, 1e6);
}

TEST(ModelSource, OpenLmDefaults) {
  const std::string shape = R"("hidden_dim": 96, "n_layers": 2, "n_heads": 6, "vocab_size": 61)";
  const Config c = config_of("{" + shape + "}");
  EXPECT_EQ(c.kv_heads, 6);
  EXPECT_EQ(c.mlp_width, 256);
  EXPECT_EQ(c.norm.kind, NormConfig::Kind::layer);
  EXPECT_TRUE(c.norm.weight && c.norm.bias);
  EXPECT_EQ(c.norm.eps, 1e-5);
  EXPECT_EQ(c.decay.kind, DecayConfig::Kind::none);
  EXPECT_EQ(c.mixers[1], MixerKind::softmax);
  EXPECT_FALSE(c.tied || c.qk_norm != QkNorm::none || c.post_embed_norm);
  EXPECT_EQ(config_of("{" + shape + R"(, "ffn_type": "gelu", "intermediate_dim_ffn": 7})").mlp_width, 4 * 96);
  // llama_rotary drops base and scale
  const Config interleaved = config_of(
      "{" + shape +
      R"(, "positional_embedding_type": "llama_rotary", "rotary_base_frequency": 5, "rotary_scale": 3})");
  EXPECT_EQ(interleaved.rope.base, 10000);
  EXPECT_EQ(interleaved.rope.scale, 1);
  // q and k of softmax layers are as wide as qk_head_dim; those of linear ones split the width
  EXPECT_EQ(config_of("{" + shape + R"(, "qk_head_dim": 20})").head_dim, 20);
  const Config linear =
      config_of("{" + shape + R"(, "qk_head_dim": 20, "v_head_dim": 6, "attn_name": "linear_attn"})");
  EXPECT_EQ(linear.head_dim, 16);
  EXPECT_EQ(linear.key_dim, 20);
  EXPECT_EQ(linear.value_dim, 6);
}

// Everything that a config can say, OpenLM's words or not, survives being written.
TEST(ModelSource, EveryFieldOfAConfigComesBack) {
  Config c;
  c.family = "mistral";
  c.vocab = 61;
  c.width = 26;
  c.layers = 3;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 10;
  c.key_dim = 14;
  c.value_dim = 6;
  c.mlp_width = 40;
  c.context = 99;
  c.tied = c.post_embed_norm = true;
  c.qk_norm = QkNorm::whole;
  c.mlp = MlpKind::gelu;
  c.gelu = Gelu::tanh;
  c.norm = {NormConfig::Kind::layer, true, false, 3e-6};
  c.rope = {Rope::Layout::interleaved, 500000, 2, 4};
  c.decay = {DecayConfig::Kind::retnet, 0.25};
  c.per_head_feature_map = true;
  c.mixers = {MixerKind::softmax, MixerKind::supra, MixerKind::softmax};
  for (int change = 0; change < 6; change++) {
    if (change == 1) c.rope.layout = Rope::Layout::by_head;
    if (change == 2) c.rope.layout = Rope::Layout::none;
    if (change == 3) c.mixers.assign(3, MixerKind::softmax);
    if (change == 4) c.decay = {DecayConfig::Kind::lightning, {}};
    if (change == 5) c.mlp = MlpKind::geglu;
    const std::string text = write_openlm_config(c).dump(true);
    EXPECT_EQ(describe(config_of(text)).dump(), describe(c).dump()) << text;
  }
  c.norm = {NormConfig::Kind::rms, true, true, 1e-5};
  EXPECT_THROW(write_openlm_config(c), Error);
}

TEST(ModelSource, AConfigOfOurOwnThatIsNewerIsRefused) {
  const std::string shape = R"({"hidden_dim": 96, "n_layers": 2, "n_heads": 6, "vocab_size": 61, "supra": )";
  EXPECT_EQ(config_complaint(shape + R"({"rope.dims": 8}})"), "");
  EXPECT_TRUE(contains(config_complaint(shape + R"({"gate": "sigmoid"}})"), "gate"));
  EXPECT_TRUE(contains(config_complaint(shape + R"({"mixers": ["supra"]}})"), "1 mixers for 2 layers"));
  EXPECT_TRUE(contains(config_complaint(shape + R"({"mixers": ["supra", "mamba"]}})"), "mamba"));
}

TEST(ModelSource, ConfigsThatCannotBeMeantAreRefused) {
  const std::map<std::string, std::string> openlm = {
      {R"("n_heads": 0)", "n_heads"},
      {R"("n_heads": 5)", "5 heads"},
      {R"("n_heads": -1)", "n_heads"},
      {R"("n_heads": "4")", "a string"},
      {R"("n_heads": 4.0)", "an integer is needed"},
      {R"("n_heads": 4, "n_layers": 4000000000)", "n_layers"},
      {R"("n_heads": 4, "n_heads_kv": 3)", "kv heads"},
      {R"("n_heads": 4, "norm_eps": 0)", "epsilon"},
      {R"("n_heads": 4, "moe_freq": 2)", "moe_freq"},
      {R"("n_heads": 4, "model_norm": "tanh")", "tanh"},
      {R"("n_heads": 4, "ffn_type": "moe")", "moe"},
      {R"("n_heads": 4, "attn_name": "custom_attn")", "custom_attn"},
      {R"("n_heads": 4, "positional_embedding_type": "alibi")", "alibi"},
      {R"("n_heads": 4, "qk_head_dim": 7)", "in pairs"},
      {R"("n_heads": 4, "rotary_base_frequency": -1)", "rotary base"},
      {R"("n_heads": 4, "decay_start": 0)", "slope"},
      {R"("n_heads": 4, "vocab_size": 9223372036854775807)", "vocab_size"}};
  for (const auto& [keys, reason] : openlm) {
    std::string text = "{" + keys;
    for (const char* rest : {R"("hidden_dim": 32)", R"("n_layers": 2)", R"("vocab_size": 61)"}) {
      const std::string key = std::string(rest).substr(0, std::string(rest).find(':'));
      if (!contains(keys, key)) text += std::string(", ") + rest;
    }
    EXPECT_TRUE(contains(config_complaint(text + "}"), reason))
        << text << ": " << config_complaint(text + "}");
  }
  const std::map<std::string, std::string> llama = {
      {R"("model_type": "gemma")", "\"gemma\""},
      {R"("hidden_act": "gelu")", "gelu"},
      {R"("quantization_config": {"bits": 4})", "quantization_config"},
      {R"("rope_scaling": {"type": "linear"})", "factor"},
      {R"("rope_scaling": {"type": "longrope", "short_factor": [1]})", "long_factor"},
      {R"("rope_scaling": {"type": "ntk", "factor": 2})", "ntk"},
      {R"("rope_parameters": {"full_attention": {"rope_theta": 1}})", "full_attention"},
      {R"("partial_rotary_factor": 1.5)", "rotary fraction"},
      {R"("model_type": "phi3", "rope_scaling": {"type": "su", "short_factor": [1], "long_factor": [2]})", "1 divisors"},
      {R"("model_type": "cohere", "use_qk_norm": true)", "use_qk_norm"},
      {R"("model_type": "gemma3_text", "use_bidirectional_attention": true)", "use_bidirectional_attention"},
      {R"("model_type": "gemma2", "query_pre_attn_scalar": 0)", "scale of scores"},
      {R"("model_type": "granite", "logits_scaling": 0)", "scale of logits"},
      {R"("model_type": "smollm3", "no_rope_layers": [1])", "no_rope_layers has 1 numbers for 2 layers"},
      {R"("model_type": "mistral", "num_key_value_heads": 2, "layer_types": ["full_attention", "chunked_attention"])",
       "chunked_attention"},
      {R"("model_type": "gpt_neox", "hidden_act": "relu")", "relu"},
      {R"("model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "scale_attn_weights": false)", "scale_attn_weights"},
      {R"("model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "add_cross_attention": true)", "add_cross_attention"}};
  for (const auto& [keys, reason] : llama) {
    std::string text = "{" + keys;
    if (!contains(keys, "model_type")) text += R"(, "model_type": "llama")";
    text += R"(, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
              "vocab_size": 61})";
    EXPECT_TRUE(contains(config_complaint(text), reason)) << text << ": " << config_complaint(text);
  }
}

class ModelFolder : public testing::Test {
 protected:
  TempDir directory;

  // A one-layer OpenLM softmax model without any size to speak of.
  NamedTensors tiny() const {
    write_bytes(directory.path() / "config.json",
                R"({"hidden_dim": 4, "n_layers": 1, "n_heads": 2, "vocab_size": 5, "intermediate_dim_ffn": 3,
                    "model_norm": "rms_norm", "weight_tying": true})");
    NamedTensors weights;
    for (const Parameter& p :
         parameters_of(read_openlm_config(Json::load(directory.path() / "config.json")))) {
      weights.emplace_back(p.name, random_normal(p.shape, weights.size()));
    }
    return weights;
  }
  std::string complaint() const {
    return complaint_of([&] { open_model(directory.path()); });
  }
};

TEST_F(ModelFolder, PrefixesOfWrappersAreTakenOff) {
  const NamedTensors weights = tiny();
  for (const char* prefix : {"module.", "model.", "module._orig_mod.", "_orig_mod.module.model."}) {
    NamedTensors renamed;
    for (const auto& [name, tensor] : weights) renamed.emplace_back(prefix + name, tensor);
    write_safetensors(directory.path() / "model.safetensors", renamed);
    const ModelSource source = open_model(directory.path());
    for (const auto& [name, tensor] : weights)
      EXPECT_TRUE(same_bits(source.weights->get(name), tensor)) << prefix << name;
  }
  NamedTensors twice = weights;
  twice.emplace_back("module." + weights[2].first, weights[2].second);
  write_safetensors(directory.path() / "model.safetensors", twice);
  EXPECT_TRUE(contains(complaint(), "there are two tensors")) << complaint();
}

TEST_F(ModelFolder, WhatNoRuleKnowsIsListed) {
  NamedTensors weights = tiny();
  weights.emplace_back("layers.0.attention.gate.weight", Tensor::zeros({3}));
  weights.emplace_back("layers.0.attention.pos_embed.inv_freq", Tensor::zeros({3}));
  weights.emplace_back("output.weight", Tensor::zeros({5, 4}));
  write_safetensors(directory.path() / "model.safetensors", weights);
  const ModelSource source = open_model(directory.path());
  EXPECT_EQ(source.unexpected, std::vector<std::string>{"layers.0.attention.gate.weight"});
  EXPECT_EQ(source.notes.size(), 2u);
}

TEST_F(ModelFolder, MissingTensorsAreCounted) {
  NamedTensors weights = tiny();
  weights.erase(weights.begin(), weights.begin() + 4);
  write_safetensors(directory.path() / "model.safetensors", weights);
  EXPECT_TRUE(contains(complaint(), "tok_embeddings.weight") && contains(complaint(), "4 that the config asks for"))
      << complaint();
}

TEST_F(ModelFolder, TheOneFileThatCanBeMeantIsTaken) {
  const NamedTensors weights = tiny();
  EXPECT_TRUE(contains(complaint(), "holds no weights")) << complaint();
  write_safetensors(directory.path() / "golden.safetensors", weights);
  EXPECT_TRUE(contains(complaint(), "holds no weights")) << complaint();
  write_safetensors(directory.path() / "step100.safetensors", weights);
  EXPECT_EQ(complaint(), "");
  write_safetensors(directory.path() / "step200.safetensors", weights);
  EXPECT_TRUE(contains(complaint(), "several")) << complaint();
  write_safetensors(directory.path() / "model.safetensors", weights);
  EXPECT_EQ(complaint(), "");
  EXPECT_EQ(complaint_of([&] { open_model(directory.path() / "step200.safetensors"); }), "");
  fs::remove(directory.path() / "config.json");
  EXPECT_TRUE(contains(complaint(), "config.json")) << complaint();
}

// A folder with one of its files cut or damaged: opened all the same, or refused by the name of a file in it.
TEST_F(ModelFolder, SurvivesAbuse) {
  const NamedTensors weights = tiny();
  Json map = Json::object();
  for (const auto& [name, tensor] : weights) map.set(name, "part.safetensors");
  const Path index = directory.path() / "model.safetensors.index.json";
  write_bytes(index, "{\"weight_map\": " + map.dump(true) + "}");
  write_safetensors(directory.path() / "part.safetensors", weights);
  const auto abused = [&] { return complaint_of([&] { read_all(*open_model(directory.path()).weights); }); };
  Philox random(5);
  for (const char* name : {"config.json", "model.safetensors.index.json", "part.safetensors"}) {
    const Path file = directory.path() / name;
    const std::string text = read_file(file);
    for (size_t i = 0; i < 100; i++) {
      write_bytes(file, text.substr(0, text.size() * i / 100));
      EXPECT_TRUE(contains(abused(), directory.path())) << name << " cut at " << i << "%: " << abused();
    }
    for (int i = 0; i < 1000; i++) {
      std::string damaged = text;
      damaged[random.below(text.size())] = static_cast<char>(random.below(256));
      write_bytes(file, damaged);
      const std::string complaint = abused();
      EXPECT_TRUE(complaint.empty() || contains(complaint, directory.path())) << complaint;
    }
    write_bytes(file, text);
    EXPECT_EQ(abused(), "");
  }
}

TEST_F(ModelFolder, SavingChecksWhatItIsGiven) {
  const NamedTensors weights = tiny();
  const Config config = read_openlm_config(Json::load(directory.path() / "config.json"));
  const auto refusal = [&](const NamedTensors& given) {
    return complaint_of([&] { save_model(directory.path(), config, given); });
  };
  EXPECT_EQ(refusal(weights), "");
  NamedTensors wrong = weights;
  wrong.pop_back();
  EXPECT_TRUE(contains(refusal(wrong), "missing"));
  wrong = weights;
  wrong.emplace_back("extra", Tensor::zeros({1}));
  EXPECT_TRUE(contains(refusal(wrong), "extra"));
  wrong = weights;
  wrong[0].second = Tensor::zeros({4, 5});
  EXPECT_TRUE(contains(refusal(wrong), "(4, 5)"));
}

// Nothing is lost where a file keeps q, k and v in different types.
TEST_F(ModelFolder, PartsOfSeveralTypesMeetInF32) {
  write_bytes(directory.path() / "config.json",
              R"({"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
                  "intermediate_size": 3, "vocab_size": 5})");
  const std::string layer = "model.layers.0.";
  const NamedTensors stored = {{layer + "self_attn.q_proj.weight", random_normal({4, 4}, 1).to(Dtype::bf16)},
                               {layer + "self_attn.k_proj.weight", random_normal({4, 4}, 2).to(Dtype::f16)},
                               {layer + "self_attn.v_proj.weight", random_normal({4, 4}, 3)},
                               {layer + "self_attn.o_proj.weight", random_normal({4, 4}, 4).to(Dtype::bf16)},
                               {layer + "mlp.gate_proj.weight", random_normal({3, 4}, 5).to(Dtype::bf16)},
                               {layer + "mlp.up_proj.weight", random_normal({3, 4}, 6).to(Dtype::bf16)},
                               {layer + "mlp.down_proj.weight", random_normal({4, 3}, 7)},
                               {layer + "input_layernorm.weight", random_normal({4}, 8)},
                               {layer + "post_attention_layernorm.weight", random_normal({4}, 9)},
                               {"model.norm.weight", random_normal({4}, 10)},
                               {"model.embed_tokens.weight", random_normal({5, 4}, 11)},
                               {"lm_head.weight", random_normal({5, 4}, 12)}};
  write_safetensors(directory.path() / "model.safetensors", stored);
  const ModelSource source = open_model(directory.path());
  expect_complete(source);
  const Tensor in_proj = source.weights->get("layers.0.attention.in_proj.weight");
  EXPECT_EQ(in_proj.dtype(), Dtype::f32);
  EXPECT_EQ(source.weights->find("layers.0.attention.in_proj.weight")->dtype, Dtype::f32);
  for (int64_t i = 0; i < 3; i++) {
    const Tensor part = stored[static_cast<size_t>(i)].second.to(Dtype::f32);
    EXPECT_TRUE(same_bits(in_proj.rows(4 * i, 4 * i + 4), part)) << i;
  }
  // parts of one type keep it
  EXPECT_EQ(source.weights->get("layers.0.feed_forward.w12.weight").dtype(), Dtype::bf16);
}

TEST_F(ModelFolder, HalvesAreWrittenAndReadBack) {
  const NamedTensors weights = tiny();
  const Config config = read_openlm_config(Json::load(directory.path() / "config.json"));
  for (const Dtype dtype : {Dtype::f16, Dtype::bf16, Dtype::f64}) {
    save_model(directory.path(), config, weights, dtype);
    const ModelSource source = open_model(directory.path());
    for (const auto& [name, tensor] : weights)
      EXPECT_TRUE(same_bits(source.weights->get(name), tensor.to(dtype))) << name;
  }
}

}  // namespace
}  // namespace supra
