#include "supra/formats/families.h"

#include <algorithm>
#include <span>

#include "supra/formats/parse/words.h"
#include "tensor/error.h"

namespace supra {

namespace {

using enum NameRule::Rows;

constexpr NameRow kMeta[] = {
    {"layers.#.attention.in_proj", "layers.#.attention.wq layers.#.attention.wk layers.#.attention.wv"},
    {"layers.#.attention.out_proj", "layers.#.attention.wo"},
    {"layers.#.feed_forward.w12", "layers.#.feed_forward.w1 layers.#.feed_forward.w3"},
    {"layers.#.feed_forward.w3", "layers.#.feed_forward.w2"},
};

constexpr NameRow kLlama[] = {
    {"tok_embeddings", "embed_tokens"},
    {"layers.#.attention_norm", "layers.#.input_layernorm"},
    {"layers.#.attention.in_proj", "layers.#.self_attn.q_proj layers.#.self_attn.k_proj layers.#.self_attn.v_proj"},
    {"layers.#.attention.q_norm", "layers.#.self_attn.q_norm"},
    {"layers.#.attention.k_norm", "layers.#.self_attn.k_norm"},
    {"layers.#.attention.out_proj", "layers.#.self_attn.o_proj"},
    {"layers.#.ffn_norm", "layers.#.post_attention_layernorm"},
    {"layers.#.feed_forward.w12", "layers.#.mlp.gate_proj layers.#.mlp.up_proj"},
    {"layers.#.feed_forward.w3", "layers.#.mlp.down_proj"},
    {"layers.#._ff_w1", "layers.#.mlp.c_fc"},
    {"layers.#._ff_w2", "layers.#.mlp.c_proj"},
    {"output", "lm_head"},
};

// Names that differ from the table that a family follows.
constexpr NameRow kOlmo2[] = {
    {"layers.#.attention_norm", "layers.#.post_attention_layernorm"},
    {"layers.#.ffn_norm", "layers.#.post_feedforward_layernorm"},
};
constexpr NameRow kPhi3[] = {
    {"layers.#.attention.in_proj", "layers.#.self_attn.qkv_proj"},
    {"layers.#.feed_forward.w12", "layers.#.mlp.gate_up_proj"},
};
constexpr NameRow kGemma[] = {
    {"layers.#.attention_post_norm", "layers.#.post_attention_layernorm"},
    {"layers.#.ffn_norm", "layers.#.pre_feedforward_layernorm"},
    {"layers.#.ffn_post_norm", "layers.#.post_feedforward_layernorm"},
};

constexpr NameRow kGptNeox[] = {
    {"tok_embeddings", "embed_in"},
    {"layers.#.attention_norm", "layers.#.input_layernorm"},
    {"layers.#.attention.in_proj", "layers.#.attention.query_key_value", by_head},
    {"layers.#.attention.out_proj", "layers.#.attention.dense"},
    {"layers.#.ffn_norm", "layers.#.post_attention_layernorm"},
    {"layers.#._ff_w1", "layers.#.mlp.dense_h_to_4h"},
    {"layers.#._ff_w2", "layers.#.mlp.dense_4h_to_h"},
    {"norm", "final_layer_norm"},
    {"output", "embed_out"},
    {"output", "lm_head"},
};

constexpr NameRow kGpt2[] = {
    {"tok_embeddings", "wte"},
    {"pos_embeddings", "wpe"},
    {"layers.#.attention_norm", "h.#.ln_1"},
    {"layers.#.attention.in_proj", "h.#.attn.c_attn", transposed},
    {"layers.#.attention.out_proj", "h.#.attn.c_proj", transposed},
    {"layers.#.ffn_norm", "h.#.ln_2"},
    {"layers.#._ff_w1", "h.#.mlp.c_fc", transposed},
    {"layers.#._ff_w2", "h.#.mlp.c_proj", transposed},
    {"norm", "ln_f"},
    {"output", "lm_head"},
};

constexpr NameRow kGguf[] = {
    {"tok_embeddings", "token_embd"},
    {"pos_embeddings", "position_embd"},
    {"layers.#.attention_norm", "blk.#.attn_norm"},
    {"layers.#.attention_post_norm", "blk.#.post_attention_norm"},
    {"layers.#.attention.in_proj", "blk.#.attn_q blk.#.attn_k blk.#.attn_v"},
    {"layers.#.attention.in_proj", "blk.#.attn_qkv"},
    {"layers.#.attention.q_norm", "blk.#.attn_q_norm"},
    {"layers.#.attention.k_norm", "blk.#.attn_k_norm"},
    {"layers.#.attention.out_proj", "blk.#.attn_output"},
    {"layers.#.ffn_norm", "blk.#.ffn_norm"},
    {"layers.#.ffn_post_norm", "blk.#.post_ffw_norm"},
    {"layers.#.feed_forward.w12", "blk.#.ffn_gate blk.#.ffn_up"},
    {"layers.#.feed_forward.w3", "blk.#.ffn_down"},
    {"layers.#._ff_w1", "blk.#.ffn_up"},
    {"layers.#._ff_w2", "blk.#.ffn_down"},
    {"norm", "output_norm"},
};
constexpr NameRow kGgufOlmo2[] = {
    {"layers.#.attention_norm", "blk.#.post_attention_norm"},
    {"layers.#.ffn_norm", "blk.#.post_ffw_norm"},
};
constexpr NameRow kGgufPhi3[] = {
    {"layers.#.feed_forward.w12", "blk.#.ffn_up"},
};
constexpr NameRow kGgufNeighbours[] = {
    {"layers.#.attention.in_proj", "blk.#.attn_q blk.#.attn_k blk.#.attn_v", neighbours},
};

constexpr NormConfig kLayerNorm = {NormConfig::Kind::layer, true, true}, kGainOnly = {NormConfig::Kind::layer, true, false},
                     kPlain = {NormConfig::Kind::layer, false, false};

constexpr Family kFamilies[] = {
    {.type = "llama", .architecture = "llama", .model_class = "LlamaForCausalLM", .neighbours = true},
    {.type = "mistral", .model_class = "MistralForCausalLM", .context = 131072, .kv_heads = 8, .window = 4096},
    {.type = "qwen2", .architecture = "qwen2", .model_class = "Qwen2ForCausalLM", .context = 32768, .kv_heads = 32, .window = 4096,
     .qkv_bias = true},
    {.type = "qwen3", .architecture = "qwen3", .model_class = "Qwen3ForCausalLM", .qk_norm = QkNorm::per_head, .context = 32768,
     .kv_heads = 32, .head_dim = 128, .window = 4096},
    {.type = "olmo2", .architecture = "olmo2", .model_class = "Olmo2ForCausalLM", .qk_norm = QkNorm::whole,
     .residual = Residual::post_norm, .eps = 1e-5, .own = kOlmo2, .own_gguf = kGgufOlmo2},
    {.type = "phi3", .architecture = "phi3", .model_class = "Phi3ForCausalLM", .period = 1, .context = 4096, .window = 0, .eps = 1e-5,
     .by_name = true, .own = kPhi3, .own_gguf = kGgufPhi3},
    {.type = "gemma2", .architecture = "gemma2", .model_class = "Gemma2ForCausalLM", .mlp = MlpKind::packed_geglu, .gelu = Gelu::tanh,
     .residual = Residual::both_norms, .period = 2, .largest = 46, .context = 8192, .kv_heads = 4, .head_dim = 256, .window = 4096,
     .tied = true, .by_name = true, .own = kGemma, .gains_less_one = true},
    {.type = "gemma3_text", .architecture = "gemma3", .model_class = "Gemma3ForCausalLM", .mlp = MlpKind::packed_geglu,
     .gelu = Gelu::tanh, .qk_norm = QkNorm::per_head, .residual = Residual::both_norms, .period = 6, .largest = 62, .context = 131072,
     .kv_heads = 4, .head_dim = 256, .window = 4096, .base = 1e6, .tied = true, .by_name = true, .own = kGemma, .gains_less_one = true},
    {.type = "smollm3", .architecture = "smollm3", .model_class = "SmolLM3ForCausalLM", .context = 32768, .kv_heads = 4, .window = 0,
     .base = 2e6, .tied = true, .by_name = true, .neighbours = true},
    {.type = "granite", .architecture = "granite", .model_class = "GraniteForCausalLM", .by_name = true, .neighbours = true},
    {.type = "starcoder2", .architecture = "starcoder2", .model_class = "Starcoder2ForCausalLM", .norm = kLayerNorm,
     .mlp = MlpKind::gelu, .gelu = Gelu::tanh, .period = 1, .context = 4096, .kv_heads = 2, .window = 0, .eps = 1e-5,
     .eps_key = "norm_epsilon", .tied = true, .by_name = true},
    {.type = "cohere", .architecture = "command-r", .model_class = "CohereForCausalLM", .norm = kGainOnly,
     .residual = Residual::one_norm, .context = 8192, .eps = 1e-5, .base = 5e5, .eps_key = "layer_norm_eps", .tied = true,
     .by_name = true},
    {.type = "olmo", .architecture = "olmo", .model_class = "OlmoForCausalLM", .norm = kPlain, .eps = 1e-5, .by_name = true,
     .neighbours = true},
    {.type = "gpt_neox", .architecture = "gptneox", .model_class = "GPTNeoXForCausalLM", .norm = kLayerNorm, .mlp = MlpKind::gelu,
     .eps = 1e-5, .eps_key = "layer_norm_eps", .names = kGptNeox, .prefix = "gpt_neox."},
    {.type = "gpt2", .architecture = "gpt2", .model_class = "GPT2LMHeadModel", .norm = kLayerNorm, .mlp = MlpKind::gelu,
     .gelu = Gelu::tanh, .context = 1024, .eps = 1e-5, .eps_key = "layer_norm_epsilon", .tied = true, .names = kGpt2,
     .prefix = "transformer."},
};

// The rows of `own` replace those of `table` for the same tensor.
TensorNames names_of(std::span<const NameRow> table, std::span<const NameRow> own, const char* prefixes, const char* buffers) {
  TensorNames names = {{}, split_words(prefixes), split_words(buffers)};
  const auto replaced = [&](const NameRow& row) {
    return std::any_of(own.begin(), own.end(), [&](const NameRow& other) { return std::string_view(row.canonical) == other.canonical; });
  };
  const auto add = [&](const NameRow& row) { names.rules.push_back({row.canonical, split_words(row.stored), row.rows}); };
  std::for_each(own.begin(), own.end(), add);
  for (const NameRow& row : table) {
    if (!replaced(row)) add(row);
  }
  return names;
}

}  // namespace

Config Family::config() const {
  Config c;
  c.norm = norm;
  c.mlp = mlp;
  c.gelu = gelu;
  c.qk_norm = qk_norm;
  c.residual = residual;
  return c;
}

std::span<const Family> families() { return kFamilies; }

const Family& family_by(const char* Family::*key, std::string_view name, const std::string& where) {
  std::string known;
  for (const Family& family : kFamilies) {
    const std::string_view own = family.*key;
    if (own.empty()) continue;
    if (own == name) return family;
    known += (known.empty() ? "" : ", ") + std::string(own);
  }
  const bool is_type = key == &Family::type;
  fail("%s: %s \"%s\" is not supported (supported: %s%s)", where.c_str(), is_type ? "model_type" : "architecture",
       std::string(name).c_str(), known.c_str(), is_type ? ", and OpenLM's config without model_type" : "");
}

TensorNames openlm_names() { return names_of({}, {}, "module. _orig_mod. model.", ".inv_freq"); }
TensorNames meta_names() { return names_of(kMeta, {}, "", ""); }

TensorNames hf_names(const Family& family) {
  TensorNames names = names_of(family.names.empty() ? kLlama : family.names, family.own, family.prefix,
                               ".inv_freq .attn.bias .attn.masked_bias .attention.bias .attention.masked_bias");
  names.gains_less_one = family.gains_less_one;
  return names;
}

TensorNames gguf_names(const Family& family) {
  return names_of(kGguf, family.neighbours ? kGgufNeighbours : family.own_gguf, "",
                  "rope_freqs.weight rope_factors_long.weight rope_factors_short.weight");
}

std::vector<NameRule> TensorNames::rules_for(const std::string& canonical) const {
  const size_t dot = canonical.rfind('.');
  std::string path = canonical.substr(0, dot), suffix = canonical.substr(dot), layer;
  if (path.starts_with("layers.")) {
    const size_t end = path.find('.', 7);
    layer = path.substr(7, end - 7);
    path = format("layers.#%s", path.c_str() + end);
  }
  std::vector<NameRule> found;
  for (const NameRule& rule : rules) {
    if (rule.canonical == path) found.push_back(rule);
  }
  if (found.empty()) found.push_back({path, {path}});
  for (NameRule& rule : found) {
    for (std::string& name : rule.stored) {
      const size_t hash = name.find('#');
      if (hash != std::string::npos) name.replace(hash, 1, layer);
      name += suffix;
    }
  }
  return found;
}

int64_t NameRule::stored_row(Rows rows, size_t part, int64_t row, int64_t head_dim) {
  const int64_t K = head_dim, head = row / K, i = row % K;
  switch (rows) {
    case by_head: return (3 * head + static_cast<int64_t>(part)) * K + i;
    case neighbours: return part == 2 ? row : head * K + i % (K / 2) * 2 + i / (K / 2);
    default: return row;
  }
}

}  // namespace supra
