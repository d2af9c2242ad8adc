#include "supra/formats/families.h"

#include "tensor/error.h"

namespace supra {

namespace {

using enum NameRule::Rows;

std::vector<std::string> hf_buffers() {
  return {".inv_freq", ".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias"};
}

Family llama_like(const char* attention_norm, const char* ffn_norm, bool fused = false) {
  using Names = std::vector<std::string>;
  return {{
              {"tok_embeddings", {"embed_tokens"}},
              {"layers.#.attention_norm", {attention_norm}},
              {"layers.#.attention_post_norm", {"layers.#.post_attention_layernorm"}},
              {"layers.#.attention.in_proj",
               fused ? Names{"layers.#.self_attn.qkv_proj"}
                     : Names{"layers.#.self_attn.q_proj", "layers.#.self_attn.k_proj", "layers.#.self_attn.v_proj"}},
              {"layers.#.attention.q_norm", {"layers.#.self_attn.q_norm"}},
              {"layers.#.attention.k_norm", {"layers.#.self_attn.k_norm"}},
              {"layers.#.attention.out_proj", {"layers.#.self_attn.o_proj"}},
              {"layers.#.ffn_norm", {ffn_norm}},
              {"layers.#.ffn_post_norm", {"layers.#.post_feedforward_layernorm"}},
              {"layers.#.feed_forward.w12",
               fused ? Names{"layers.#.mlp.gate_up_proj"} : Names{"layers.#.mlp.gate_proj", "layers.#.mlp.up_proj"}},
              {"layers.#.feed_forward.w3", {"layers.#.mlp.down_proj"}},
              {"layers.#._ff_w1", {"layers.#.mlp.c_fc"}},
              {"layers.#._ff_w2", {"layers.#.mlp.c_proj"}},
              {"output", {"lm_head"}},
          },
          {"model."},
          hf_buffers()};
}

Family gpt_neox() {
  return {{
              {"tok_embeddings", {"embed_in"}},
              {"layers.#.attention_norm", {"layers.#.input_layernorm"}},
              {"layers.#.attention.in_proj", {"layers.#.attention.query_key_value"}, by_head},
              {"layers.#.attention.out_proj", {"layers.#.attention.dense"}},
              {"layers.#.ffn_norm", {"layers.#.post_attention_layernorm"}},
              {"layers.#._ff_w1", {"layers.#.mlp.dense_h_to_4h"}},
              {"layers.#._ff_w2", {"layers.#.mlp.dense_4h_to_h"}},
              {"norm", {"final_layer_norm"}},
              {"output", {"embed_out"}},
              {"output", {"lm_head"}},
          },
          {"gpt_neox."},
          hf_buffers()};
}

Family gpt2() {
  return {{
              {"tok_embeddings", {"wte"}},
              {"pos_embeddings", {"wpe"}},
              {"layers.#.attention_norm", {"h.#.ln_1"}},
              {"layers.#.attention.in_proj", {"h.#.attn.c_attn"}, transposed},
              {"layers.#.attention.out_proj", {"h.#.attn.c_proj"}, transposed},
              {"layers.#.ffn_norm", {"h.#.ln_2"}},
              {"layers.#._ff_w1", {"h.#.mlp.c_fc"}, transposed},
              {"layers.#._ff_w2", {"h.#.mlp.c_proj"}, transposed},
              {"norm", {"ln_f"}},
              {"output", {"lm_head"}},
          },
          {"transformer."},
          hf_buffers()};
}

Family gguf(NameRule::Rows qk_rows, const char* attention_norm = "attn_norm", const char* ffn_norm = "ffn_norm") {
  const std::string block = "blk.#.";
  return {{
              {"tok_embeddings", {"token_embd"}},
              {"pos_embeddings", {"position_embd"}},
              {"layers.#.attention_norm", {block + attention_norm}},
              {"layers.#.attention.in_proj", {"blk.#.attn_q", "blk.#.attn_k", "blk.#.attn_v"}, qk_rows},
              {"layers.#.attention.in_proj", {"blk.#.attn_qkv"}},
              {"layers.#.attention_post_norm", {"blk.#.post_attention_norm"}},
              {"layers.#.attention.q_norm", {"blk.#.attn_q_norm"}},
              {"layers.#.attention.k_norm", {"blk.#.attn_k_norm"}},
              {"layers.#.attention.out_proj", {"blk.#.attn_output"}},
              {"layers.#.ffn_norm", {block + ffn_norm}},
              {"layers.#.ffn_post_norm", {"blk.#.post_ffw_norm"}},
              {"layers.#.feed_forward.w12", {"blk.#.ffn_gate", "blk.#.ffn_up"}},
              {"layers.#.feed_forward.w3", {"blk.#.ffn_down"}},
              {"layers.#._ff_w1", {"blk.#.ffn_up"}},
              {"layers.#._ff_w2", {"blk.#.ffn_down"}},
              {"norm", {"output_norm"}},
          },
          {},
          {"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"}};
}

[[noreturn]] void unknown(const std::string& name) {
  fail("the names of the tensors of family %s are not known", name.c_str());
}

}  // namespace

Family openlm_family() { return {{}, {"module.", "_orig_mod.", "model."}, {".inv_freq"}}; }

Family meta_family() {
  return {
      {
          {"layers.#.attention.in_proj",
           {"layers.#.attention.wq", "layers.#.attention.wk", "layers.#.attention.wv"}},
          {"layers.#.attention.out_proj", {"layers.#.attention.wo"}},
          {"layers.#.feed_forward.w12", {"layers.#.feed_forward.w1", "layers.#.feed_forward.w3"}},
          {"layers.#.feed_forward.w3", {"layers.#.feed_forward.w2"}},
      },
      {},
      {},
  };
}

Family hf_family(const std::string& type) {
  for (const char* other : {"llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", "granite", "starcoder2", "cohere", "olmo"}) {
    if (type == other) return llama_like("layers.#.input_layernorm", "layers.#.post_attention_layernorm", type == "phi3");
  }
  if (type == "gemma2" || type == "gemma3_text") {
    Family family = llama_like("layers.#.input_layernorm", "layers.#.pre_feedforward_layernorm");
    family.gains_less_one = true;
    return family;
  }
  if (type == "olmo2")
    return llama_like("layers.#.post_attention_layernorm", "layers.#.post_feedforward_layernorm");
  if (type == "gpt_neox") return gpt_neox();
  if (type == "gpt2") return gpt2();
  unknown(type);
}

bool gguf_turns_rows(const std::string& architecture) {
  return architecture == "llama" || architecture == "smollm3" || architecture == "granite" || architecture == "olmo";
}

Family gguf_family(const std::string& architecture) {
  if (gguf_turns_rows(architecture)) return gguf(neighbours);
  if (architecture == "phi3") {
    Family family = gguf(same);
    std::erase_if(family.rules, [](const NameRule& rule) { return rule.canonical.ends_with("w12"); });
    family.rules.push_back({"layers.#.feed_forward.w12", {"blk.#.ffn_up"}});
    return family;
  }
  if (architecture == "olmo2") return gguf(same, "post_attention_norm", "post_ffw_norm");
  for (const char* other : {"qwen2", "qwen3", "gptneox", "gpt2", "gemma2", "gemma3", "starcoder2", "command-r"}) {
    if (architecture == other) return gguf(same);
  }
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
