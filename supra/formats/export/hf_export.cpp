#include "supra/formats/export/hf_export.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "supra/formats/config/config_json.h"
#include "supra/formats/config/hf_config.h"
#include "supra/formats/families.h"
#include "supra/formats/parameters.h"
#include "supra/formats/rearrange.h"

namespace supra {

namespace {

[[noreturn]] void refuse(const char* what) {
  fail("convert: no family of transformers has %s (--to openlm keeps what OpenLM has)", what);
}

// The window of all layers, 0 for none; -1 if they differ.
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
    const auto factors = [&](const std::vector<double>& divisors) {
      Json list = Json::array();
      for (const double divisor : divisors) list.push(divisor * c.rope.scale);
      return list;
    };
    const int64_t trained = c.rope.trained ? c.rope.trained : c.context;
    json.set("rope_type", "longrope");
    json.set("short_factor", factors(c.rope.divisors));
    json.set("long_factor", factors(c.rope.trained ? c.rope.long_divisors : c.rope.divisors));
    json.set("factor", static_cast<double>(c.context) / static_cast<double>(trained));
    json.set("attention_factor", c.rope.magnitude);
    json.set("original_max_position_embeddings", trained);
  } else if (c.rope.dynamic > 0) {
    json.set("rope_type", "dynamic");
    json.set("factor", c.rope.dynamic);
  } else if (c.rope.scale != 1) {
    json.set("rope_type", "linear");
    json.set("factor", c.rope.scale);
  } else {
    json.set("rope_type", "default");
  }
  return json;
}

// The keys that Llama, similar families and GPT-NeoX have in common.
void write_common(Json& json, const Config& c) {
  json.set("hidden_size", c.width);
  json.set("num_hidden_layers", c.layers);
  json.set("num_attention_heads", c.heads);
  json.set("intermediate_size", c.mlp_width);
  json.set("max_position_embeddings", c.context);
  // transformers 5 reads rope_parameters, transformers 4 the two others
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

Json or_null(double value) { return value != 0 ? Json(value) : Json(); }

// n, an integer in transformers, of the scale 1 / sqrt(n).
int64_t query_scalar(double scale) { return std::llround(1 / (scale * scale)); }

void write_windows(Json& json, const Config& c) {
  if (c.windows.empty()) return;
  Json types = Json::array();
  for (const int64_t w : c.windows) types.push(w ? "sliding_attention" : "full_attention");
  json.set("sliding_window", *std::max_element(c.windows.begin(), c.windows.end()));
  json.set("layer_types", types);
}

// The keys of a family that Llama does not have.
void write_own(Json& json, const Config& c, const std::string& type) {
  const double score_scale = c.score_scale ? c.score_scale : 1 / std::sqrt(static_cast<double>(c.head_dim));
  // the default may not be an id of this vocabulary
  json.set("pad_token_id", Json());
  if (type == "phi3" || type == "starcoder2") json.set("sliding_window", only_window(c) ? Json(only_window(c)) : Json());
  if (type == "phi3") {
    if (c.rope.trained) json.set("original_max_position_embeddings", c.rope.trained);
  } else if (type == "gemma2" || type == "gemma3_text") {
    json.set("hidden_activation", c.gelu == Gelu::tanh ? "gelu_pytorch_tanh" : "gelu");
    json.set("query_pre_attn_scalar", query_scalar(score_scale));
    json.set("attn_logit_softcapping", or_null(c.score_cap));
    json.set("final_logit_softcapping", or_null(c.logit_cap));
    write_windows(json, c);
  } else if (type == "smollm3") {
    Json has_rope = Json::array();
    for (const Turn turn : c.turns) has_rope.push(int64_t{turn != Turn::none});
    json.set("no_rope_layers", has_rope);
    json.set("use_sliding_window", !c.windows.empty());
    write_windows(json, c);
  } else if (type == "granite") {
    json.set("embedding_multiplier", c.embedding_scale);
    json.set("residual_multiplier", c.residual_scale);
    json.set("attention_multiplier", score_scale);
    json.set("logits_scaling", 1 / c.logit_scale);
  } else if (type == "starcoder2") {
    json.set("use_bias", c.out_bias);
    json.set("norm_epsilon", c.norm.eps);
    json.set("hidden_act", c.gelu == Gelu::tanh ? "gelu_pytorch_tanh" : "gelu");
  } else if (type == "cohere") {
    json.set("logit_scale", c.logit_scale);
    json.set("layer_norm_eps", c.norm.eps);
  } else if (type == "olmo") {
    json.set("clip_qkv", or_null(c.qkv_clip));
  }
  if (type != "gemma3_text") return;
  // a rope for each kind of layer; transformers 4 reads rope_local_base_freq
  const Json local = Json::object({{"rope_type", "default"}, {"rope_theta", c.local_rope_base}});
  json.set("rope_parameters", Json::object({{"full_attention", json.at("rope_parameters")}, {"sliding_attention", local}}));
  json.set("rope_local_base_freq", c.local_rope_base);
}

void write_llama(Json& json, const Config& c, const Family& family) {
  const std::string type = family.type;
  write_common(json, c);
  json.set("num_key_value_heads", c.kv_heads);
  json.set("head_dim", c.head_dim);
  json.set("hidden_act", "silu");
  json.set("rms_norm_eps", c.norm.eps);
  json.set("attention_bias", c.out_bias);
  if (type == "llama" || type == "smollm3" || type == "granite") json.set("mlp_bias", c.mlp_bias);
  if (family.by_name) return write_own(json, c, type);
  const int64_t window = only_window(c);
  if (type == "mistral") json.set("sliding_window", window ? Json(window) : Json());
  if (!type.starts_with("qwen")) return;
  json.set("use_sliding_window", !c.windows.empty());
  write_windows(json, c);
  if (!c.windows.empty())
    json.set("max_window_layers", std::find_if(c.windows.begin(), c.windows.end(), [](int64_t w) { return w > 0; }) - c.windows.begin());
}

// The config.json of a family.
Json written(const Config& c, const std::string& type, Dtype dtype) {
  const Family& family = family_by(&Family::type, type, "convert");
  Json json = Json::object();
  json.set("architectures", Json::array({family.model_class}));
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
    write_llama(json, c, family);
  }
  return json;
}

// A scale that is written as 1 / x or 1 / x^2 is read back with rounding, and the numbers of a GGUF are f32.
bool same(const Json& a, const Json& b) {
  const bool numbers = a.is_number() && b.is_number();
  return a == b || (numbers && std::abs(a.as_number("") - b.as_number("")) <= 1e-7 * std::abs(a.as_number("")));
}

// Throws Error naming the first field that is lost if the config is written as this family and read back.
void check_comes_back(const Config& c, const std::string& type) {
  Config known = c;
  known.family = type;
  const Json wanted = describe(known), understood = describe(read_hf_config(written(c, type, Dtype::f32))), none;
  const auto in = [&](const Json& fields, const std::string& key) -> const Json& {
    const Json* value = fields.find(key);
    return value ? *value : none;
  };
  for (const Json* fields : {&wanted, &understood}) {
    for (const auto& [key, value] : fields->as_object()) {
      if (same(in(wanted, key), in(understood, key))) continue;
      refuse(format("a %s of this %s: %s", type.c_str(), key.c_str(), in(wanted, key).dump().c_str()).c_str());
    }
  }
}

}  // namespace

std::string hf_model_type(const Config& c) {
  if (std::count(c.mixers.begin(), c.mixers.end(), MixerKind::supra) > 0) refuse("SUPRA layers");
  if (std::count(c.mixers.begin(), c.mixers.end(), MixerKind::delta) > 0) refuse("layers of the gated delta rule");
  if (std::count(c.mixers.begin(), c.mixers.end(), MixerKind::window) > 0) refuse("windows with attention sinks");
  if (c.post_embed_norm) refuse("a norm behind the embedding");
  if (c.value_dim != c.head_dim) refuse("values of another width than keys");
  for (const Family& family : families()) {
    if (!family.by_name || (c.family != family.type && c.family != family.architecture)) continue;
    check_comes_back(c, family.type);
    return family.type;
  }
  Config without = c;
  without.turns.clear();
  without.embedding_scale = without.residual_scale = without.logit_scale = 1;
  without.score_scale = without.score_cap = without.qkv_clip = without.logit_cap = 0;
  if (describe(without) != describe(c) || c.residual > Residual::post_norm) refuse("the scales, caps or layers of this config");
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

Json write_hf_config(const Config& c, Dtype dtype) { return written(c, hf_model_type(c), dtype); }

NamedTensors hf_weights(const Config& c, const NamedTensors& canonical) {
  const std::string type = hf_model_type(c);
  const TensorNames names = hf_names(family_by(&Family::type, type, "convert"));
  // in transformers' own models all names but the output matrix's begin with the prefix
  const std::string prefix = names.prefixes[0];
  std::map<std::string, std::vector<int64_t>> parts_of;
  for (const Parameter& p : parameters_of(c)) parts_of[p.name] = p.parts;

  NamedTensors stored;
  for (const auto& [name, tensor] : canonical) {
    const NameRule rule = names.rules_for(name)[0];
    const std::vector<int64_t>& parts = parts_of.at(name);
    Tensor rows = names.is_less_one(name) ? plus(tensor, -1) : tensor;
    if (c.rope.layout == Rope::Layout::interleaved && type != "cohere" && name.find(".in_proj.") != std::string::npos) {
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
      // stored row (head, part, i)
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
