#include "supra/evaluation/verify.h"
#include "supra/formats/config/config_json.h"
#include "supra/formats/model_source.h"
#include "supra/formats/weights/safetensors.h"
#include "tests/fuzz_formats.h"
#include "tests/golden_hf.h"
#include "tests/small_files.h"

// Models of transformers, written as llama.cpp's converter does: its names, keys, rows as pairs of neighbours, gains with 1 added.

namespace supra {
namespace {

// What replaces what in a name.
const std::pair<const char*, const char*> kNames[] = {
    {"model.embed_tokens", "token_embd"},   {"model.norm", "output_norm"},        {"lm_head", "output"},
    {"model.layers.", "blk."},              {"self_attn.q_proj", "attn_q"},       {"self_attn.k_proj", "attn_k"},
    {"self_attn.v_proj", "attn_v"},         {"self_attn.qkv_proj", "attn_qkv"},   {"self_attn.o_proj", "attn_output"},
    {"self_attn.q_norm", "attn_q_norm"},    {"self_attn.k_norm", "attn_k_norm"},  {"input_layernorm", "attn_norm"},
    {"mlp.gate_proj", "ffn_gate"},          {"mlp.up_proj", "ffn_up"},            {"mlp.gate_up_proj", "ffn_up"},
    {"mlp.down_proj", "ffn_down"},          {"mlp.c_fc", "ffn_up"},               {"mlp.c_proj", "ffn_down"},
    {"pre_feedforward_layernorm", "ffn_norm"}, {"post_feedforward_layernorm", "post_ffw_norm"}};

std::string llama_cpp_name(std::string name, bool gemma) {
  const auto swap = [&](const std::string& from, const std::string& to) {
    if (const size_t at = name.find(from); at != std::string::npos) name.replace(at, from.size(), to);
  };
  for (const auto& [from, to] : kNames) swap(from, to);
  swap("post_attention_layernorm", gemma ? "post_attention_norm" : "ffn_norm");
  return name;
}

struct Written {
  const char *name, *architecture;
  bool turned = false;                       // rows of q and k as pairs of neighbours
  std::vector<std::pair<std::string, double>> numbers = {};  // keys that no other family has
};

const Written kWritten[] = {
    {"phi3", "phi3"},
    {"phi3_window", "phi3", false, {{"attention.sliding_window", 9}}},
    {"phi3_longrope_short", "phi3", false,
     {{"rope.scaling.original_context_length", 256}, {"rope.scaling.attn_factor", std::sqrt(1 + std::log(8) / std::log(256))}}},
    {"gemma2", "gemma2", false, {{"attention.sliding_window", 8}, {"attn_logit_softcapping", 20}, {"final_logit_softcapping", 15}}},
    {"gemma3", "gemma3", false, {{"attention.sliding_window", 8}, {"attention.sliding_window_pattern", 3}, {"rope.freq_base_swa", 10000}}},
    {"smollm3", "smollm3", true},
    {"granite", "granite", true, {{"attention.scale", 0.11}, {"embedding_scale", 3}, {"residual_scale", 0.4}, {"logit_scale", 1.7}}},
    {"starcoder2", "starcoder2"},
    {"cohere", "command-r", false, {{"logit_scale", 0.25}}},
    {"olmo", "olmo", true}};

NamedTensors llama_cpp_tensors(const Path& folder, const Written& as, const Config& c) {
  NamedTensors tensors;
  const auto file = open_safetensors(folder / "model.safetensors");
  const bool gemma = std::string(as.architecture).starts_with("gemma");
  for (const TensorInfo& info : file->tensors()) {
    const Tensor from = file->get(info.name), to = from.clone();
    const int64_t C = from.dim(-1), K = c.head_dim;
    const bool turned = as.turned && (info.name.find("q_proj") != std::string::npos || info.name.find("k_proj") != std::string::npos);
    for (int64_t row = 0; turned && row < from.dim(0); row++) {
      const int64_t i = row % K, at = row - i + i % (K / 2) * 2 + i / (K / 2);
      to.rows(at, at + 1).copy_from(from.rows(row, row + 1));
    }
    for (int64_t i = 0; gemma && info.name.ends_with("norm.weight") && i < C; i++) to.data<float>()[i] += 1;
    tensors.emplace_back(llama_cpp_name(info.name, gemma), to);
  }
  for (const auto& [name, factors] :
       {std::pair("rope_factors_short.weight", c.rope.divisors), {"rope_factors_long.weight", c.rope.long_divisors}}) {
    if (!factors.empty()) tensors.emplace_back(name, Tensor::of(std::vector<float>(factors.begin(), factors.end())));
  }
  return tensors;
}

std::string gguf_bytes(const Written& as, const Config& c, const NamedTensors& tensors) {
  std::vector<std::pair<std::string, double>> keys = as.numbers;
  const bool layer_norm = c.norm.kind == NormConfig::Kind::layer;
  for (const auto& [key, value] : std::vector<std::pair<std::string, int64_t>>{
           {"context_length", c.context}, {"embedding_length", c.width}, {"block_count", c.layers}, {"feed_forward_length", c.mlp_width},
           {"attention.head_count", c.heads}, {"attention.head_count_kv", c.kv_heads}, {"attention.key_length", c.head_dim}})
    keys.emplace_back(key, static_cast<double>(value));
  keys.emplace_back("rope.freq_base", c.rope.base);
  keys.emplace_back(layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", c.norm.eps);
  GgufBytes b = gguf_head(tensors.size(), keys.size() + 1);
  b.key("general.architecture", 8, std::string(as.architecture));
  for (const auto& [key, value] : keys) {
    const std::string name = std::string(as.architecture) + "." + key;
    const auto is_of = [&](const char* part) { return key.find(part) != std::string::npos; };
    const bool whole = value == std::floor(value) && !is_of("scale") && !is_of("capping") && !is_of("rope.freq");
    whole ? b.key(name, 4, static_cast<uint32_t>(value)) : b.key(name, 12, value);
  }
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    std::vector<uint64_t> sizes(tensor.shape().begin(), tensor.shape().end());
    std::reverse(sizes.begin(), sizes.end());
    b.tensor(name, sizes, 0, data.size());
    data.append(static_cast<const char*>(tensor.raw()), tensor.bytes());
    data.resize((data.size() + 31) / 32 * 32);
  }
  return b.with_data(data);
}

TEST(GgufFamilies, AreTheModelsThatTransformersHas) {
  const TempDir directory;
  for (const Written& as : kWritten) {
    SCOPED_TRACE(as.name);
    const Path folder = golden_hf(as.name), path = directory.path() / (std::string(as.name) + ".gguf");
    SKIP_WITHOUT(folder);
    const ModelSource theirs = open_model(folder);
    write_bytes(path, gguf_bytes(as, theirs.config, llama_cpp_tensors(folder, as, theirs.config)));
    const ModelSource ours = open_model(path);
    EXPECT_TRUE(ours.unexpected.empty()) << ours.unexpected[0];
    for (const TensorInfo& info : theirs.weights->tensors())
      EXPECT_TRUE(same_bits(ours.weights->get(info.name), theirs.weights->get(info.name))) << info.name;
    Config wanted = theirs.config;
    wanted.family = as.architecture;
    // llama.cpp knows no other scale of these, and SmolLM3's layers without a rope are every fourth
    if (wanted.family.starts_with("gemma")) wanted.score_scale = 1 / std::sqrt(static_cast<double>(wanted.head_dim));
    if (wanted.family == "smollm3") wanted.turns = {Turn::rope, Turn::rope, Turn::rope, Turn::none};
    // lists of factors are f32 there
    wanted.rope.divisors = ours.config.rope.divisors, wanted.rope.long_divisors = ours.config.rope.long_divisors;
    EXPECT_EQ(describe(ours.config).dump(), describe(wanted).dump());
  }
}

// The values of transformers themselves, of those whose every setting a GGUF can say.
TEST(GgufFamilies, GiveTheValuesOfTransformers) {
  const TempDir directory;
  for (const Written& as : kWritten) {
    if (as.name == std::string("gemma2") || as.name == std::string("smollm3")) continue;
    SCOPED_TRACE(as.name);
    const Path folder = golden_hf(as.name), path = directory.path() / (std::string(as.name) + ".gguf");
    SKIP_WITHOUT(folder);
    const Config config = open_model(folder).config;
    write_bytes(path, gguf_bytes(as, config, llama_cpp_tensors(folder, as, config)));
    for (const VerifyRow& row : verify(load_model(path), folder / "golden.safetensors", {}))
      EXPECT_TRUE(row.passed()) << row.key << " " << row.error;
  }
}

}  // namespace
}  // namespace supra
