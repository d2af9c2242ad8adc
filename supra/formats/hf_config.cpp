#include "supra/formats/hf_config.h"

#include "supra/formats/config_json.h"

namespace supra {

namespace {

// Defaults of transformers' LlamaConfig and MistralConfig for keys that old files leave out.
struct FamilyDefaults {
  const char* model_type;
  int64_t context;
  int64_t kv_heads;        // 0: as many as heads
  int64_t sliding_window;  // 0: none
};

const FamilyDefaults kFamilies[] = {{"llama", 2048, 0, 0}, {"mistral", 131072, 8, 4096}};

const FamilyDefaults& family_of(const Json& json) {
  const std::string& type = json.text("model_type");
  for (const FamilyDefaults& family : kFamilies) {
    if (type == family.model_type) return family;
  }
  fail("%s: model_type \"%s\" is not supported by this version (supported: llama, mistral, and OpenLM's)",
       json.at("model_type").where().c_str(), type.c_str());
}

[[noreturn]] void refuse(const Json& json, const std::string& what) {
  fail("%s: %s is not supported by this version, and ignoring it would give wrong results",
       json.where().c_str(), what.c_str());
}

void refuse_unsupported(const Json& json, const FamilyDefaults& family) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    if (json.flag(key, false)) refuse(json.at(key), std::string(key) + " (biases in the layers)");
  }
  if (const Json* quantised = json.find("quantization_config"))
    refuse(*quantised, "quantization_config (quantised weights)");
  if (json.number("partial_rotary_factor", 1) != 1)
    refuse(json.at("partial_rotary_factor"), "partial_rotary_factor");
  const std::string activation = json.text("hidden_act", "silu");
  if (activation != "silu") refuse(json.at("hidden_act"), "hidden_act \"" + activation + "\" (silu is)");

  // a key that is absent takes the family's default, null says none
  bool window_given = false;
  for (const Json::Member& member : json.as_object()) {
    if (member.key != "sliding_window") continue;
    window_given = true;
    if (!member.value.is_null())
      refuse(member.value, "sliding_window (attention over a window of the last tokens)");
  }
  if (!window_given && family.sliding_window > 0) {
    refuse(json, format("sliding_window (absent, so %ld in this family; null would say none)",
                        static_cast<long>(family.sliding_window)));
  }
  if (const Json* types = json.find("layer_types")) {
    for (const Json& type : types->as_array("layer_types")) {
      if (type.as_string("layer_types") != "full_attention")
        refuse(type, "layer_types \"" + type.as_string() + "\"");
    }
  }
}

// transformers 5 has all in rope_parameters; before, rope_theta stood apart and rope_scaling was null or said
// `type`, later `rope_type`.
Rope read_rope(const Json& json) {
  Rope rope;
  rope.base = json.number("rope_theta", 10000);
  const Json* settings = json.find("rope_parameters");
  if (!settings) settings = json.find("rope_scaling");
  if (!settings) return rope;
  for (const Json::Member& member : settings->as_object("rope_parameters")) {
    if (member.value.is_object()) refuse(member.value, "a rope of its own for \"" + member.key + "\" layers");
  }
  rope.base = settings->number("rope_theta", rope.base);
  if (settings->number("partial_rotary_factor", 1) != 1) refuse(*settings, "partial_rotary_factor");
  const std::string type = settings->text("rope_type", settings->text("type", "default"));
  if (type == "linear")
    rope.scale = settings->number("factor");
  else if (type != "default")
    refuse(*settings, "rope type \"" + type + "\" (scaling of the rotary frequencies)");
  return rope;
}

}  // namespace

Config read_hf_config(const Json& json) {
  const FamilyDefaults& family = family_of(json);
  refuse_unsupported(json, family);
  Config c;
  c.family = family.model_type;
  c.width = read_count(json, "hidden_size");
  c.layers = read_count(json, "num_hidden_layers", {}, kMostLayers);
  c.heads = read_count(json, "num_attention_heads");
  c.kv_heads = read_count(json, "num_key_value_heads", family.kv_heads ? family.kv_heads : c.heads);
  CHECK(json.find("head_dim") || c.width % c.heads == 0, "%s: hidden_size %ld is not divisible by %ld heads",
        json.where().c_str(), static_cast<long>(c.width), static_cast<long>(c.heads));
  c.head_dim = read_count(json, "head_dim", c.width / c.heads);
  c.key_dim = c.value_dim = c.head_dim;
  c.mlp_width = read_count(json, "intermediate_size");
  c.vocab = read_count(json, "vocab_size");
  c.context = read_count(json, "max_position_embeddings", family.context);
  c.tied = json.flag("tie_word_embeddings", false);
  c.norm.eps = json.number("rms_norm_eps", 1e-6);
  c.rope = read_rope(json);
  c.mixers.assign(static_cast<size_t>(c.layers), MixerKind::softmax);
  check_config(c, json.where());
  return c;
}

}  // namespace supra
