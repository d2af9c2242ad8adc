#include "supra/formats/hf_config.h"

#include <cmath>

#include "supra/formats/config_json.h"
#include "supra/formats/rope_scaling.h"

namespace supra {

namespace {

[[noreturn]] void refuse(const Json& json, const std::string& what) {
  fail("%s: %s is not supported, and ignoring it would give wrong results", json.where().c_str(), what.c_str());
}

// A key that is absent takes the family's default; null says none.
int64_t count_or_none(const Json& json, std::string_view key, int64_t absent) {
  for (const Json::Member& member : json.as_object()) {
    if (member.key == key) return member.value.is_null() ? 0 : read_count(json, key);
  }
  return absent;
}

// Two YaRN settings may each have a factor of their own (transformers, modeling_rope_utils.py).
double yarn_magnitude(const Json& settings, double factor) {
  const auto magnitude = [&](double m) { return factor > 1 ? 0.1 * m * std::log(factor) + 1 : 1; };
  const double all = settings.number("mscale_all_dim", 0);
  const double usual = all != 0 ? magnitude(settings.number("mscale", 1)) / magnitude(all) : magnitude(1);
  return settings.number("attention_factor", usual);
}

// transformers 5 has all in rope_parameters; before, rope_theta (rotary_emb_base) and partial_rotary_factor
// (rotary_pct) stood apart and rope_scaling was null or said `type`, later `rope_type`.
Rope read_rope(const Json& json, int64_t head_dim, int64_t context, double fraction, std::vector<std::string>& notes) {
  Rope rope;
  rope.base = json.number("rope_theta", json.number("rotary_emb_base", 10000));
  fraction = json.number("partial_rotary_factor", json.number("rotary_pct", fraction));
  const Json* settings = json.find("rope_parameters");
  if (!settings) settings = json.find("rope_scaling");
  if (settings) {
    for (const Json::Member& member : settings->as_object("rope_parameters")) {
      if (member.value.is_object()) refuse(member.value, "a rope of its own for \"" + member.key + "\" layers");
    }
    rope.base = settings->number("rope_theta", rope.base);
    fraction = settings->number("partial_rotary_factor", fraction);
  }
  CHECK(fraction > 0 && fraction <= 1, "%s: a rotary fraction of %g", json.where().c_str(), fraction);
  const int64_t dims = static_cast<int64_t>(static_cast<double>(head_dim) * fraction);
  if (dims != head_dim) rope.dims = dims;
  if (!settings) return rope;

  const std::string type = settings->text("rope_type", settings->text("type", "default"));
  if (type == "default") return rope;
  const double factor = settings->number("factor", 1);
  const int64_t trained = read_count(*settings, "original_max_position_embeddings",
                                     read_count(json, "original_max_position_embeddings", context));
  if (type == "linear") {
    rope.scale = settings->number("factor");
  } else if (type == "dynamic") {
    notes.push_back(format("dynamic scaling of the rotary frequencies begins beyond %ld tokens and is not applied",
                           static_cast<long>(trained)));
  } else if (type == "llama3") {
    scale_llama3(rope, dims, trained, factor, settings->number("low_freq_factor"), settings->number("high_freq_factor"));
  } else if (type == "yarn") {
    scale_yarn(rope, dims, trained, factor, settings->number("beta_fast", 32), settings->number("beta_slow", 1));
    rope.magnitude = yarn_magnitude(*settings, factor);
  } else if (type == "longrope") {
    // the same factors for short and long texts are plain divisors
    const Json &shorter = settings->at("short_factor"), &longer = settings->at("long_factor");
    if (!(shorter == longer)) refuse(*settings, "longrope with other factors for long texts");
    for (const Json& divisor : shorter.as_array("short_factor")) rope.divisors.push_back(divisor.as_number("short_factor"));
    rope.magnitude = settings->number("attention_factor", 1);
  } else {
    refuse(*settings, "rope type \"" + type + "\" (scaling of the rotary frequencies)");
  }
  return rope;
}

Gelu read_gelu(const Json& json, const char* key, const char* otherwise) {
  const std::string name = json.text(key, otherwise);
  if (name == "gelu") return Gelu::erf;
  if (name == "gelu_new" || name == "gelu_fast" || name == "gelu_pytorch_tanh") return Gelu::tanh;
  refuse(json.at(key), format("%s \"%s\" (gelu and gelu_new are known)", key, name.c_str()));
}

// Defaults of transformers' configs for keys that old files leave out, and what they have no key for.
struct LlamaLike {
  const char* model_type;
  int64_t context;
  int64_t kv_heads;  // 0: as many as heads
  int64_t head_dim;  // 0: width / heads
  double eps;
  int64_t window;    // 0: none
  bool qkv_bias;
  QkNorm qk_norm;
  Residual residual;
};

const LlamaLike kLlamas[] = {
    {"llama", 2048, 0, 0, 1e-6, 0, false, QkNorm::none, Residual::pre_norm},
    {"mistral", 131072, 8, 0, 1e-6, 4096, false, QkNorm::none, Residual::pre_norm},
    {"qwen2", 32768, 32, 0, 1e-6, 4096, true, QkNorm::none, Residual::pre_norm},
    {"qwen3", 32768, 32, 128, 1e-6, 4096, false, QkNorm::per_head, Residual::pre_norm},
    {"olmo2", 2048, 0, 0, 1e-5, 0, false, QkNorm::whole, Residual::post_norm},
};

// Which layers see only a window: layer_types says it where it is there; Mistral's are all alike, Qwen's from
// max_window_layers on, if at all.
std::vector<int64_t> read_windows(const Json& json, const LlamaLike& family, int64_t layers) {
  if (family.window == 0) return {};
  const bool qwen = std::string(family.model_type).starts_with("qwen");
  int64_t window = count_or_none(json, "sliding_window", family.window);
  if (qwen && !json.flag("use_sliding_window", false)) window = 0;
  const int64_t first = qwen ? json.integer("max_window_layers", 28) : 0;
  std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
  for (int64_t i = std::max<int64_t>(0, first); i < layers; i++) windows[i] = window;

  if (const Json* types = json.find("layer_types")) {
    const Json::Array& list = types->as_array("layer_types");
    CHECK(static_cast<int64_t>(list.size()) == layers, "%s: layer_types has %zu words for %ld layers",
          types->where().c_str(), list.size(), static_cast<long>(layers));
    for (int64_t i = 0; i < layers; i++) {
      const std::string& word = list[static_cast<size_t>(i)].as_string("layer_types");
      if (word != "full_attention" && word != "sliding_attention") refuse(*types, "layer_types \"" + word + "\"");
      windows[i] = word == "full_attention" ? 0 : window;
    }
  }
  const bool any = std::count(windows.begin(), windows.end(), 0) < layers;
  return any ? windows : std::vector<int64_t>();
}

Config read_llama(const Json& json, const LlamaLike& family, std::vector<std::string>& notes) {
  Config c;
  c.width = read_count(json, "hidden_size");
  c.layers = read_count(json, "num_hidden_layers", {}, kMostLayers);
  c.heads = read_count(json, "num_attention_heads");
  c.kv_heads = read_count(json, "num_key_value_heads", family.kv_heads ? family.kv_heads : c.heads);
  c.head_dim = read_count(json, "head_dim", family.head_dim ? family.head_dim : std::max<int64_t>(1, c.width / c.heads));
  c.mlp_width = read_count(json, "intermediate_size");
  c.context = read_count(json, "max_position_embeddings", family.context);
  c.tied = json.flag("tie_word_embeddings", false);
  c.norm.eps = json.number("rms_norm_eps", family.eps);
  c.residual = family.residual;
  c.qk_norm = family.qk_norm;
  c.out_bias = json.flag("attention_bias", false);
  c.qkv_bias = c.out_bias || family.qkv_bias;
  c.mlp_bias = json.flag("mlp_bias", false);
  c.windows = read_windows(json, family, c.layers);
  c.rope = read_rope(json, c.head_dim, c.context, 1, notes);
  const std::string activation = json.text("hidden_act", "silu");
  if (activation != "silu") refuse(json.at("hidden_act"), "hidden_act \"" + activation + "\" (silu is)");
  CHECK(json.find("head_dim") || family.head_dim || c.width % c.heads == 0, "%s: hidden_size %ld is not divisible by %ld heads",
        json.where().c_str(), static_cast<long>(c.width), static_cast<long>(c.heads));
  return c;
}

// What GPT-NeoX and GPT-2 have in common: LayerNorm, two matrices in the MLP, biases, every head its own keys.
void set_gpt(const Json& json, Config& c, const char* eps_key) {
  CHECK(c.width % c.heads == 0, "%s: a width of %ld is not divisible by %ld heads", json.where().c_str(),
        static_cast<long>(c.width), static_cast<long>(c.heads));
  c.kv_heads = c.heads;
  c.head_dim = c.width / c.heads;
  c.norm = {NormConfig::Kind::layer, true, true, json.number(eps_key, 1e-5)};
  c.mlp = MlpKind::gelu;
  c.qkv_bias = c.out_bias = c.mlp_bias = true;
}

Config read_gpt_neox(const Json& json, std::vector<std::string>& notes) {
  Config c;
  c.width = read_count(json, "hidden_size");
  c.layers = read_count(json, "num_hidden_layers", {}, kMostLayers);
  c.heads = read_count(json, "num_attention_heads");
  c.mlp_width = read_count(json, "intermediate_size");
  c.context = read_count(json, "max_position_embeddings", 2048);
  c.tied = json.flag("tie_word_embeddings", false);
  set_gpt(json, c, "layer_norm_eps");
  c.qkv_bias = c.out_bias = json.flag("attention_bias", true);
  c.gelu = read_gelu(json, "hidden_act", "gelu");
  c.residual = json.flag("use_parallel_residual", true) ? Residual::parallel : Residual::pre_norm;
  c.rope = read_rope(json, c.head_dim, c.context, 0.25, notes);
  return c;
}

Config read_gpt2(const Json& json) {
  Config c;
  c.width = read_count(json, "n_embd");
  c.layers = read_count(json, "n_layer", {}, kMostLayers);
  c.heads = read_count(json, "n_head");
  const int64_t inner = count_or_none(json, "n_inner", 0);
  c.mlp_width = inner ? inner : 4 * c.width;
  c.context = read_count(json, "n_positions", read_count(json, "n_ctx", 1024));
  c.tied = json.flag("tie_word_embeddings", true);
  set_gpt(json, c, "layer_norm_epsilon");
  c.gelu = read_gelu(json, "activation_function", "gelu_new");
  c.learned_positions = true;
  c.rope.layout = Rope::Layout::none;
  if (!json.flag("scale_attn_weights", true)) refuse(json, "scale_attn_weights false");
  for (const char* key : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"}) {
    if (json.flag(key, false)) refuse(json.at(key), key);
  }
  return c;
}

Config read_family(const Json& json, const std::string& type, std::vector<std::string>& notes) {
  if (type == "gpt_neox") return read_gpt_neox(json, notes);
  if (type == "gpt2") return read_gpt2(json);
  std::string known;
  for (const LlamaLike& family : kLlamas) {
    if (type == family.model_type) return read_llama(json, family, notes);
    known += std::string(family.model_type) + ", ";
  }
  fail("%s: model_type \"%s\" is not supported (supported: %sgpt_neox, gpt2, and OpenLM's)",
       json.at("model_type").where().c_str(), type.c_str(), known.c_str());
}

}  // namespace

Config read_hf_config(const Json& json, std::vector<std::string>& notes) {
  const std::string& type = json.text("model_type");
  if (const Json* quantised = json.find("quantization_config")) refuse(*quantised, "quantization_config (quantised weights)");
  Config c = read_family(json, type, notes);
  c.family = type;
  c.vocab = read_count(json, "vocab_size");
  c.key_dim = c.value_dim = c.head_dim;
  c.mixers.assign(static_cast<size_t>(c.layers), MixerKind::softmax);
  check_config(c, json.where());
  return c;
}

}  // namespace supra
