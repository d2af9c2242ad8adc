#include "supra/formats/hf_export.h"

#include <algorithm>
#include <map>

#include "supra/formats/families.h"
#include "supra/formats/parameters.h"
#include "supra/formats/rearrange.h"

namespace supra {

namespace {

[[noreturn]] void refuse(const char* what) {
  fail("convert: no family of transformers has %s (--to openlm keeps what OpenLM has)", what);
}

// One window for all layers, 0 for none.
int64_t only_window(const Config& c) {
  if (c.windows.empty()) return 0;
  if (std::count(c.windows.begin(), c.windows.end(), c.windows[0]) != c.layers) return -1;
  return c.windows[0];
}

int64_t rotary_dims(const Config& c) { return c.rope.dims ? c.rope.dims : c.head_dim; }

Json write_rope(const Config& c) {
  Json json = Json::object();
  json.set("rope_theta", c.rope.base);
  if (!c.rope.divisors.empty()) {
    Json factors = Json::array();
    for (const double divisor : c.rope.divisors) factors.push(divisor * c.rope.scale);
    json.set("rope_type", "longrope");
    json.set("short_factor", factors);
    json.set("long_factor", factors);
    json.set("factor", 1.0);
    json.set("attention_factor", c.rope.magnitude);
    json.set("original_max_position_embeddings", c.context);
  } else if (c.rope.scale != 1) {
    json.set("rope_type", "linear");
    json.set("factor", c.rope.scale);
  } else {
    json.set("rope_type", "default");
  }
  return json;
}

// The keys of a Llama and of those that follow it, and of GPT-NeoX.
void write_common(Json& json, const Config& c) {
  json.set("hidden_size", c.width);
  json.set("num_hidden_layers", c.layers);
  json.set("num_attention_heads", c.heads);
  json.set("intermediate_size", c.mlp_width);
  json.set("max_position_embeddings", c.context);
  // transformers 5 reads rope_parameters, 4 the two others
  Json rope = write_rope(c);
  json.set("rope_theta", c.rope.base);
  if (rope.text("rope_type") != "default") json.set("rope_scaling", rope);
  if (rotary_dims(c) != c.head_dim) {
    const double fraction = static_cast<double>(rotary_dims(c)) / static_cast<double>(c.head_dim);
    rope.set("partial_rotary_factor", fraction);
    json.set("partial_rotary_factor", fraction);
    json.set("rotary_pct", fraction);
  }
  json.set("rope_parameters", rope);
}

void write_llama(Json& json, const Config& c, const std::string& type) {
  write_common(json, c);
  json.set("num_key_value_heads", c.kv_heads);
  json.set("head_dim", c.head_dim);
  json.set("hidden_act", "silu");
  json.set("rms_norm_eps", c.norm.eps);
  json.set("attention_bias", c.out_bias);
  if (type == "llama") json.set("mlp_bias", c.mlp_bias);
  const int64_t window = only_window(c);
  if (type == "mistral") json.set("sliding_window", window ? Json(window) : Json());
  if (!type.starts_with("qwen")) return;
  json.set("use_sliding_window", !c.windows.empty());
  if (c.windows.empty()) return;
  Json types = Json::array();
  for (const int64_t w : c.windows) types.push(w ? "sliding_attention" : "full_attention");
  json.set("sliding_window", *std::max_element(c.windows.begin(), c.windows.end()));
  json.set("max_window_layers", std::find_if(c.windows.begin(), c.windows.end(), [](int64_t w) { return w > 0; }) - c.windows.begin());
  json.set("layer_types", types);
}

}  // namespace

std::string hf_model_type(const Config& c) {
  if (std::count(c.mixers.begin(), c.mixers.end(), MixerKind::supra) > 0) refuse("SUPRA layers");
  if (std::count(c.mixers.begin(), c.mixers.end(), MixerKind::delta) > 0) refuse("layers of the gated delta rule");
  if (std::count(c.mixers.begin(), c.mixers.end(), MixerKind::window) > 0) refuse("windows with attention sinks");
  if (c.post_embed_norm) refuse("a norm behind the embedding");
  if (c.value_dim != c.head_dim) refuse("values of another width than keys");
  if (!c.norm.weight) refuse("a norm without a gain");
  if (c.rope.layout == Rope::Layout::by_head) refuse("angles by head");
  const bool layer_norm = c.norm.kind == NormConfig::Kind::layer;
  if (layer_norm) {
    if (!c.norm.bias || c.mlp != MlpKind::gelu || c.kv_heads != c.heads || c.qk_norm != QkNorm::none || !c.windows.empty() ||
        !c.mlp_bias || c.residual == Residual::post_norm)
      refuse("LayerNorm with the rest of this config");
    if (!c.learned_positions) return "gpt_neox";
    if (c.rope.layout != Rope::Layout::none || !c.qkv_bias || !c.out_bias || c.residual != Residual::pre_norm || c.gelu != Gelu::tanh)
      refuse("learned positions with the rest of this config");
    return "gpt2";
  }
  if (c.mlp != MlpKind::swiglu) refuse("RMSNorm with an MLP other than SwiGLU");
  if (c.learned_positions || c.rope.layout == Rope::Layout::none) refuse("RMSNorm without rotary positions");
  if (c.residual == Residual::parallel) refuse("RMSNorm in parallel layers");
  if (c.rope.dims != 0 && c.rope.dims != c.head_dim) refuse("RMSNorm with partly rotated heads");
  const bool plain = !c.mlp_bias && c.qkv_bias == c.out_bias;
  if (c.residual == Residual::post_norm || c.qk_norm == QkNorm::whole) {
    if (c.residual != Residual::post_norm || c.qk_norm != QkNorm::whole || !plain || !c.windows.empty())
      refuse("norms behind the layers with the rest of this config");
    return "olmo2";
  }
  if (c.qk_norm == QkNorm::per_head) {
    if (!plain) refuse("norms of heads with these biases");
    return "qwen3";
  }
  if (c.qkv_bias && !c.out_bias && !c.mlp_bias) return "qwen2";
  if (c.qkv_bias != c.out_bias) refuse("these biases");
  if (c.windows.empty()) return c.family == "mistral" && !c.qkv_bias && !c.mlp_bias ? "mistral" : "llama";
  if (only_window(c) <= 0 || c.qkv_bias || c.mlp_bias) refuse("windows in some layers of this kind");
  return "mistral";
}

const char* torch_name(Dtype dtype) {
  return dtype == Dtype::f16 ? "float16" : dtype == Dtype::bf16 ? "bfloat16" : "float32";
}

Json write_hf_config(const Config& c, Dtype dtype) {
  const std::string type = hf_model_type(c);
  static const std::map<std::string, const char*> classes = {
      {"llama", "LlamaForCausalLM"}, {"mistral", "MistralForCausalLM"}, {"qwen2", "Qwen2ForCausalLM"}, {"qwen3", "Qwen3ForCausalLM"},
      {"olmo2", "Olmo2ForCausalLM"}, {"gpt_neox", "GPTNeoXForCausalLM"}, {"gpt2", "GPT2LMHeadModel"}};
  Json json = Json::object();
  json.set("architectures", Json::array({classes.at(type)}));
  json.set("model_type", type);
  json.set("vocab_size", c.vocab);
  json.set("tie_word_embeddings", c.tied);
  json.set("dtype", torch_name(dtype));
  json.set("torch_dtype", torch_name(dtype));
  json.set("use_cache", true);
  const char* gelu = c.gelu == Gelu::tanh ? "gelu_new" : "gelu";
  if (type == "gpt2") {
    json.set("n_embd", c.width);
    json.set("n_layer", c.layers);
    json.set("n_head", c.heads);
    json.set("n_positions", c.context);
    json.set("n_inner", c.mlp_width == 4 * c.width ? Json() : Json(c.mlp_width));
    json.set("activation_function", gelu);
    json.set("layer_norm_epsilon", c.norm.eps);
  } else if (type == "gpt_neox") {
    write_common(json, c);
    json.set("rotary_emb_base", c.rope.base);
    json.set("hidden_act", gelu);
    json.set("layer_norm_eps", c.norm.eps);
    json.set("attention_bias", c.out_bias);
    json.set("use_parallel_residual", c.residual == Residual::parallel);
  } else {
    write_llama(json, c, type);
  }
  return json;
}

NamedTensors hf_weights(const Config& c, const NamedTensors& canonical) {
  const std::string type = hf_model_type(c);
  const Family family = hf_family(type);
  // transformers' own models bear the prefix, but for the output matrix
  const std::string prefix = family.prefixes[0];
  std::map<std::string, std::vector<int64_t>> parts_of;
  for (const Parameter& p : parameters_of(c)) parts_of[p.name] = p.parts;

  NamedTensors stored;
  for (const auto& [name, tensor] : canonical) {
    const NameRule rule = rules_for(family, name)[0];
    const std::vector<int64_t>& parts = parts_of.at(name);
    Tensor rows = tensor;
    if (c.rope.layout == Rope::Layout::interleaved && name.find(".in_proj.") != std::string::npos) {
      rows = Tensor::empty(tensor.shape(), tensor.dtype());
      int64_t begin = 0;
      for (size_t part = 0; part < parts.size(); begin += parts[part++]) {
        const int64_t end = begin + parts[part];
        copy_rows(rows.rows(begin, end), tensor.rows(begin, end),
                  [&](int64_t row) { return NameRule::stored_row(NameRule::Rows::neighbours, part, row, c.head_dim); });
      }
    }
    if (rule.rows == NameRule::Rows::transposed && rows.rank() == 2) rows = transposed(rows);
    if (rule.rows == NameRule::Rows::by_head) {
      // stored row (head, part, i), all heads as wide
      const int64_t K = c.head_dim;
      const Tensor by_head = Tensor::empty(rows.shape(), rows.dtype());
      copy_rows(by_head, rows, [&](int64_t row) { return row / K % 3 * parts[0] + row / K / 3 * K + row % K; });
      rows = by_head;
    }
    int64_t begin = 0;
    for (size_t i = 0; i < rule.stored.size(); i++) {
      const std::string& as = rule.stored[i];
      const bool is_output = name.starts_with("output.");
      const int64_t end = rule.stored.size() > 1 ? begin + parts[i] : rows.dim(0);
      stored.emplace_back((is_output ? "" : prefix) + as, rule.stored.size() > 1 ? rows.rows(begin, end) : rows);
      begin = end;
    }
  }
  return stored;
}

}  // namespace supra
