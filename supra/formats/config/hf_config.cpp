#include "supra/formats/config/hf_config.h"

#include <cmath>

#include "supra/formats/config/config_json.h"
#include "supra/formats/config/rope_scaling.h"
#include "supra/formats/families.h"

namespace supra {

namespace {

[[noreturn]] void refuse(const Json& json, const std::string& what) {
  fail("%s: %s is not supported, and ignoring it would give wrong results", json.where().c_str(), what.c_str());
}

// The value of a key, JSON's null included; a null pointer if the key is absent.
const Json* said(const Json& json, std::string_view key) {
  for (const Json::Member& member : json.as_object()) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

// An absent key means the family's default; null means none.
int64_t count_or_none(const Json& json, std::string_view key, int64_t absent) {
  const Json* value = said(json, key);
  return !value ? absent : value->is_null() ? 0 : read_count(json, key);
}

double number_or_none(const Json& json, std::string_view key, double absent) {
  const Json* value = said(json, key);
  return !value ? absent : value->is_null() ? 0 : value->as_number(key);
}

// As in transformers' modeling_rope_utils.py: mscale and mscale_all_dim each give a factor.
double yarn_magnitude(const Json& settings, double factor) {
  const auto magnitude = [&](double m) { return factor > 1 ? 0.1 * m * std::log(factor) + 1 : 1; };
  const double all = settings.number("mscale_all_dim", 0);
  const double usual = all != 0 ? magnitude(settings.number("mscale", 1)) / magnitude(all) : magnitude(1);
  return settings.number("attention_factor", usual);
}

// longrope (arXiv 2402.13753), as in Phi-3: other divisors for texts longer than the trained context.
void read_longrope(const Json& settings, Rope& rope, int64_t trained, double factor) {
  for (const auto& [key, divisors] : {std::pair("short_factor", &rope.divisors), {"long_factor", &rope.long_divisors}}) {
    for (const Json& divisor : settings.at(key).as_array(key)) divisors->push_back(divisor.as_number(key));
  }
  rope.trained = trained;
  // if short and long texts have the same factors, these are plain divisors
  if (rope.divisors == rope.long_divisors) rope.trained = 0, rope.long_divisors.clear();
  const double usual = factor > 1 ? std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(trained))) : 1;
  rope.magnitude = settings.number("attention_factor", usual);
}

// transformers 5 writes everything into rope_parameters, once for each kind of layer if they differ. Older versions write
// rope_theta (or rotary_emb_base), partial_rotary_factor (or rotary_pct), and rope_scaling, which is null or has a `type` or
// `rope_type`.
void read_rope(const Json& json, Config& c, double base, double fraction) {
  Rope& rope = c.rope;
  rope.base = json.number("rope_theta", json.number("rotary_emb_base", base));
  c.local_rope_base = json.number("rope_local_base_freq", c.local_rope_base);
  fraction = json.number("partial_rotary_factor", json.number("rotary_pct", fraction));
  const Json* settings = json.find("rope_parameters");
  if (!settings) settings = json.find("rope_scaling");
  if (const Json* local = settings ? settings->find("sliding_attention") : nullptr; local && !c.turns.empty()) {
    c.local_rope_base = local->number("rope_theta", c.local_rope_base);
    if (local->text("rope_type", "default") != "default") refuse(*local, "a scaled rope in layers with a window");
    settings = &settings->at("full_attention");
  }
  if (settings) {
    for (const Json::Member& member : settings->as_object("rope_parameters")) {
      if (member.value.is_object()) refuse(member.value, "a separate rope for \"" + member.key + "\" layers");
    }
    rope.base = settings->number("rope_theta", rope.base);
    fraction = settings->number("partial_rotary_factor", fraction);
  }
  CHECK(fraction > 0 && fraction <= 1, "%s: the rotary fraction is %g, expected more than 0 and at most 1", json.where().c_str(), fraction);
  const int64_t dims = static_cast<int64_t>(static_cast<double>(c.head_dim) * fraction);
  if (dims != c.head_dim) rope.dims = dims;
  if (!settings) return;

  const std::string type = settings->text("rope_type", settings->text("type", "default"));
  if (type == "default") return;
  const int64_t trained = read_count(*settings, "original_max_position_embeddings",
                                     read_count(json, "original_max_position_embeddings", c.context));
  const bool longrope = type == "longrope" || type == "su";
  const double factor = settings->number("factor", longrope ? static_cast<double>(c.context) / static_cast<double>(trained) : 1);
  if (type == "linear") {
    rope.scale = settings->number("factor");
  } else if (type == "dynamic") {
    rope.trained = c.context;
    rope.dynamic = factor;
  } else if (type == "llama3") {
    scale_llama3(rope, dims, trained, factor, settings->number("low_freq_factor"), settings->number("high_freq_factor"));
  } else if (type == "yarn") {
    scale_yarn(rope, dims, trained, factor, settings->number("beta_fast", 32), settings->number("beta_slow", 1));
    rope.magnitude = yarn_magnitude(*settings, factor);
  } else if (longrope) {
    read_longrope(*settings, rope, trained, factor);
  } else {
    refuse(*settings, "rope type \"" + type + "\" (default, linear, dynamic, llama3, yarn and longrope are known)");
  }
}

Gelu read_gelu(const Json& json, const char* key, const char* otherwise) {
  const std::string name = json.text(key, otherwise);
  if (name == "gelu") return Gelu::erf;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return Gelu::tanh;
  refuse(json.at(key), format("%s \"%s\" (gelu and gelu_new are known)", key, name.c_str()));
}

// Which layers see only a window. layer_types decides if the file has it. Otherwise: Qwen's from max_window_layers on,
// SmolLM3's without a rope, Gemma's all but every second or sixth, other families' all or none.
std::vector<int64_t> read_windows(const Json& json, const Family& family, const Config& c) {
  if (family.window < 0) return {};
  const bool qwen = std::string_view(family.type).starts_with("qwen");
  int64_t window = count_or_none(json, "sliding_window", family.window);
  if ((qwen || family.is("smollm3")) && !json.flag("use_sliding_window", false)) window = 0;
  const int64_t first = qwen ? json.integer("max_window_layers", 28) : 0;
  int64_t period = family.period > 1 ? family.period : 0;
  if (family.is("gemma3_text")) period = read_count(json, "sliding_window_pattern", period);
  std::vector<int64_t> windows(static_cast<size_t>(c.layers), 0);
  for (int64_t i = std::max<int64_t>(0, first); i < c.layers; i++) {
    const bool whole = (period > 0 && (i + 1) % period == 0) || (family.is("smollm3") && rope_of(c, i).layout != Rope::Layout::none);
    windows[i] = whole ? 0 : window;
  }
  if (const Json* types = json.find("layer_types")) {
    const Json::Array& list = types->as_array("layer_types");
    CHECK(static_cast<int64_t>(list.size()) == c.layers, "%s: layer_types has %zu words for %ld layers",
          types->where().c_str(), list.size(), static_cast<long>(c.layers));
    for (int64_t i = 0; i < c.layers; i++) {
      const std::string& word = list[static_cast<size_t>(i)].as_string("layer_types");
      if (word != "full_attention" && word != "sliding_attention") refuse(*types, "layer_types \"" + word + "\"");
      windows[i] = word == "full_attention" ? 0 : window;
    }
  }
  const bool any = std::count(windows.begin(), windows.end(), 0) < c.layers;
  return any ? windows : std::vector<int64_t>();
}

// SmolLM3: a list of layers with and without a rope, or every n-th layer has none.
std::vector<Turn> read_turns(const Json& json, int64_t layers) {
  std::vector<Turn> turns(static_cast<size_t>(layers), Turn::rope);
  if (const Json* list = json.find("no_rope_layers")) {
    const Json::Array& has_rope = list->as_array("no_rope_layers");
    CHECK(static_cast<int64_t>(has_rope.size()) == layers, "%s: no_rope_layers has %zu numbers for %ld layers (1: with a rope, 0: without)",
          list->where().c_str(), has_rope.size(), static_cast<long>(layers));
    for (int64_t i = 0; i < layers; i++) turns[i] = has_rope[i].as_integer("no_rope_layers") ? Turn::rope : Turn::none;
  } else {
    const int64_t interval = read_count(json, "no_rope_layer_interval", 4);
    for (int64_t i = interval - 1; i < layers; i += interval) turns[i] = Turn::none;
  }
  return turns;
}

// The scales and caps of some families. Refuses features that the decoder lacks.
void read_scales(const Json& json, const Family& family, Config& c) {
  if (family.gains_less_one) {
    c.embedding_scale = std::sqrt(static_cast<double>(c.width));
    c.score_scale = 1 / std::sqrt(json.number("query_pre_attn_scalar", 256));
    c.score_cap = number_or_none(json, "attn_logit_softcapping", family.is("gemma2") ? 50 : 0);
    c.logit_cap = number_or_none(json, "final_logit_softcapping", family.is("gemma2") ? 30 : 0);
  } else if (family.is("granite")) {
    c.embedding_scale = json.number("embedding_multiplier", 1);
    c.residual_scale = json.number("residual_multiplier", 1);
    c.score_scale = json.number("attention_multiplier", 1);
    c.logit_scale = 1 / json.number("logits_scaling", 1);
  } else if (family.is("cohere")) {
    c.logit_scale = json.number("logit_scale", 0.0625);
    c.rope.layout = Rope::Layout::interleaved;
  } else if (family.is("olmo")) {
    c.qkv_clip = number_or_none(json, "clip_qkv", 0);
  }
  for (const char* key : {"use_bidirectional_attention", "use_qk_norm"}) {
    if (json.flag(key, false)) refuse(json.at(key), key);
  }
}

// The keys that Llama, similar families and GPT-NeoX have in common.
void read_shape(const Json& json, const Family& family, Config& c) {
  c.width = read_count(json, "hidden_size");
  c.layers = read_count(json, "num_hidden_layers", {}, kMostLayers);
  c.heads = read_count(json, "num_attention_heads");
  c.mlp_width = read_count(json, "intermediate_size");
  c.context = read_count(json, "max_position_embeddings", family.context);
}

void read_llama(const Json& json, const Family& family, Config& c) {
  read_shape(json, family, c);
  c.kv_heads = read_count(json, "num_key_value_heads", family.kv_heads ? family.kv_heads : c.heads);
  c.head_dim = read_count(json, "head_dim", family.head_dim ? family.head_dim : std::max<int64_t>(1, c.width / c.heads));
  c.tied = json.flag("tie_word_embeddings", family.tied);
  // OLMo has no key for it
  c.norm.eps = family.is("olmo") ? family.eps : json.number(family.eps_key, family.eps);
  c.out_bias = family.is("starcoder2") ? json.flag("use_bias", true) : json.flag("attention_bias", false);
  c.qkv_bias = c.out_bias || family.qkv_bias;
  c.mlp_bias = family.is("starcoder2") ? c.out_bias : json.flag("mlp_bias", false);
  if (family.is("smollm3")) c.turns = read_turns(json, c.layers);
  c.windows = read_windows(json, family, c);
  if (family.is("gemma3_text")) {
    for (int64_t i = 0; i < c.layers; i++) c.turns.push_back(c.windows.empty() || c.windows[i] == 0 ? Turn::rope : Turn::local);
  }
  read_rope(json, c, family.base, 1);
  read_scales(json, family, c);
  if (c.mlp != MlpKind::swiglu) {
    c.gelu = read_gelu(json, family.gains_less_one ? "hidden_activation" : "hidden_act", "gelu_pytorch_tanh");
  } else if (const std::string activation = json.text("hidden_act", "silu"); activation != "silu") {
    refuse(json.at("hidden_act"), "hidden_act \"" + activation + "\" (silu is)");
  }
  CHECK(json.find("head_dim") || family.head_dim || c.width % c.heads == 0, "%s: hidden_size %ld is not divisible by %ld heads",
        json.where().c_str(), static_cast<long>(c.width), static_cast<long>(c.heads));
}

// GPT-NeoX and GPT-2 both have biases, and keys for each head.
void set_gpt(const Json& json, const Family& family, Config& c) {
  CHECK(c.width % c.heads == 0, "%s: a width of %ld is not divisible by %ld heads", json.where().c_str(),
        static_cast<long>(c.width), static_cast<long>(c.heads));
  c.kv_heads = c.heads;
  c.head_dim = c.width / c.heads;
  c.norm.eps = json.number(family.eps_key, family.eps);
  c.tied = json.flag("tie_word_embeddings", family.tied);
  c.qkv_bias = c.out_bias = c.mlp_bias = true;
}

void read_gpt_neox(const Json& json, const Family& family, Config& c) {
  read_shape(json, family, c);
  set_gpt(json, family, c);
  c.qkv_bias = c.out_bias = json.flag("attention_bias", true);
  c.gelu = read_gelu(json, "hidden_act", "gelu");
  c.residual = json.flag("use_parallel_residual", true) ? Residual::parallel : Residual::pre_norm;
  read_rope(json, c, family.base, 0.25);
}

void read_gpt2(const Json& json, const Family& family, Config& c) {
  c.width = read_count(json, "n_embd");
  c.layers = read_count(json, "n_layer", {}, kMostLayers);
  c.heads = read_count(json, "n_head");
  const int64_t inner = count_or_none(json, "n_inner", 0);
  c.mlp_width = inner ? inner : 4 * c.width;
  c.context = read_count(json, "n_positions", read_count(json, "n_ctx", family.context));
  set_gpt(json, family, c);
  c.gelu = read_gelu(json, "activation_function", "gelu_new");
  c.learned_positions = true;
  c.rope.layout = Rope::Layout::none;
  if (!json.flag("scale_attn_weights", true)) refuse(json, "scale_attn_weights false");
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"}) {
    if (json.flag(key, false)) refuse(json.at(key), key);
  }
}

}  // namespace

Config read_hf_config(const Json& json) {
  const std::string& type = json.text("model_type");
  if (const Json* quantised = json.find("quantization_config")) refuse(*quantised, "quantization_config (quantised weights)");
  const Family& family = family_by(&Family::type, type, json.at("model_type").where());
  Config c = family.config();
  c.family = type;
  if (family.is("gpt_neox"))
    read_gpt_neox(json, family, c);
  else if (family.is("gpt2"))
    read_gpt2(json, family, c);
  else
    read_llama(json, family, c);
  c.vocab = read_count(json, "vocab_size");
  c.key_dim = c.value_dim = c.head_dim;
  c.mixers.assign(static_cast<size_t>(c.layers), MixerKind::softmax);
  check_config(c, json.where());
  return c;
}

}  // namespace supra
