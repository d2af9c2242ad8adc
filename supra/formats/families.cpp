#include "supra/formats/families.h"

#include <algorithm>
#include <span>

#include "tensor/error.h"

namespace supra {

namespace {

using enum NameRule::Rows;

// A rule, with the names of what is stacked apart by spaces.
struct Row {
  const char *canonical, *stored;
  NameRule::Rows rows = same;
};

constexpr Row kMeta[] = {
    {"layers.#.attention.in_proj", "layers.#.attention.wq layers.#.attention.wk layers.#.attention.wv"},
    {"layers.#.attention.out_proj", "layers.#.attention.wo"},
    {"layers.#.feed_forward.w12", "layers.#.feed_forward.w1 layers.#.feed_forward.w3"},
    {"layers.#.feed_forward.w3", "layers.#.feed_forward.w2"},
};

constexpr Row kLlama[] = {
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

// What is called otherwise than in the table that a family follows.
constexpr Row kOlmo2[] = {
    {"layers.#.attention_norm", "layers.#.post_attention_layernorm"},
    {"layers.#.ffn_norm", "layers.#.post_feedforward_layernorm"},
};
constexpr Row kPhi3[] = {
    {"layers.#.attention.in_proj", "layers.#.self_attn.qkv_proj"},
    {"layers.#.feed_forward.w12", "layers.#.mlp.gate_up_proj"},
};
constexpr Row kGemma[] = {
    {"layers.#.attention_post_norm", "layers.#.post_attention_layernorm"},
    {"layers.#.ffn_norm", "layers.#.pre_feedforward_layernorm"},
    {"layers.#.ffn_post_norm", "layers.#.post_feedforward_layernorm"},
};

constexpr Row kGptNeox[] = {
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

constexpr Row kGpt2[] = {
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

constexpr Row kGguf[] = {
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
constexpr Row kGgufOlmo2[] = {
    {"layers.#.attention_norm", "blk.#.post_attention_norm"},
    {"layers.#.ffn_norm", "blk.#.post_ffw_norm"},
};
constexpr Row kGgufPhi3[] = {
    {"layers.#.feed_forward.w12", "blk.#.ffn_up"},
};
constexpr Row kGgufTurned[] = {
    {"layers.#.attention.in_proj", "blk.#.attn_q blk.#.attn_k blk.#.attn_v", neighbours},
};

// The word is one of those, which stand apart by spaces.
bool is_one(std::string_view word, std::string_view of) {
  return (" " + std::string(of) + " ").find(" " + std::string(word) + " ") != std::string::npos;
}

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

// `own` goes first: its names replace the table's.
Family family_of(std::span<const Row> table, std::span<const Row> own, const char* prefixes, const char* buffers) {
  Family family = {{}, words_of(prefixes), words_of(buffers)};
  const auto replaced = [&](const Row& row) {
    return std::any_of(own.begin(), own.end(), [&](const Row& other) { return std::string_view(row.canonical) == other.canonical; });
  };
  const auto add = [&](const Row& row) { family.rules.push_back({row.canonical, words_of(row.stored), row.rows}); };
  std::for_each(own.begin(), own.end(), add);
  for (const Row& row : table) {
    if (!replaced(row)) add(row);
  }
  return family;
}

constexpr char kHfBuffers[] = ".inv_freq .attn.bias .attn.masked_bias .attention.bias .attention.masked_bias";

[[noreturn]] void unknown(const std::string& name) {
  fail("the names of the tensors of family %s are not known", name.c_str());
}

}  // namespace

Family openlm_family() { return family_of({}, {}, "module. _orig_mod. model.", ".inv_freq"); }
Family meta_family() { return family_of(kMeta, {}, "", ""); }

Family hf_family(const std::string& type) {
  const auto llama_but = [](std::span<const Row> own) { return family_of(kLlama, own, "model.", kHfBuffers); };
  if (is_one(type, "llama mistral qwen2 qwen3 smollm3 granite starcoder2 cohere olmo")) return llama_but({});
  if (type == "olmo2") return llama_but(kOlmo2);
  if (type == "phi3") return llama_but(kPhi3);
  if (is_one(type, "gemma2 gemma3_text")) {
    Family family = llama_but(kGemma);
    family.gains_less_one = true;
    return family;
  }
  if (type == "gpt_neox") return family_of(kGptNeox, {}, "gpt_neox.", kHfBuffers);
  if (type == "gpt2") return family_of(kGpt2, {}, "transformer.", kHfBuffers);
  unknown(type);
}

bool gguf_turns_rows(const std::string& architecture) { return is_one(architecture, "llama smollm3 granite olmo"); }

Family gguf_family(const std::string& architecture) {
  const auto all_but = [](std::span<const Row> own) {
    return family_of(kGguf, own, "", "rope_freqs.weight rope_factors_long.weight rope_factors_short.weight");
  };
  if (gguf_turns_rows(architecture)) return all_but(kGgufTurned);
  if (architecture == "olmo2") return all_but(kGgufOlmo2);
  if (architecture == "phi3") return all_but(kGgufPhi3);
  if (is_one(architecture, "qwen2 qwen3 gptneox gpt2 gemma2 gemma3 starcoder2 command-r")) return all_but({});
  unknown(architecture);
}

bool is_less_one(const Family& family, const std::string& canonical) {
  return family.gains_less_one && canonical.ends_with("norm.weight");
}

std::vector<NameRule> rules_for(const Family& family, const std::string& canonical) {
  const size_t dot = canonical.rfind('.');
  std::string path = canonical.substr(0, dot), suffix = canonical.substr(dot), layer;
  if (path.starts_with("layers.")) {
    const size_t end = path.find('.', 7);
    layer = path.substr(7, end - 7);
    path = format("layers.#%s", path.c_str() + end);
  }
  std::vector<NameRule> rules;
  for (const NameRule& rule : family.rules) {
    if (rule.canonical == path) rules.push_back(rule);
  }
  if (rules.empty()) rules.push_back({path, {path}});
  for (NameRule& rule : rules) {
    for (std::string& name : rule.stored) {
      const size_t hash = name.find('#');
      if (hash != std::string::npos) name.replace(hash, 1, layer);
      name += suffix;
    }
  }
  return rules;
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
