#include "supra/formats/config/config_json.h"

#include <algorithm>

#include "supra/formats/parse/words.h"

namespace supra {

namespace {

// The words for the values of an enumeration, in the order of the values.
const char* words(MixerKind) { return "softmax supra window delta"; }
const char* words(NormConfig::Kind) { return "rms layer"; }
const char* words(Residual) { return "pre_norm parallel post_norm one_norm both_norms"; }
const char* words(QkNorm) { return "none whole per_head"; }
const char* words(MlpKind) { return "swiglu gelu geglu packed_geglu"; }
const char* words(Gelu) { return "erf tanh"; }
const char* words(DecayConfig::Kind) { return "none lightning retnet"; }
const char* words(DecayConfig::Source) { return "fixed learned gated"; }
const char* words(OutputNorm) { return "group denominator none"; }
const char* words(Turn) { return "none rope local"; }
const char* words(Rope::Layout) { return "none half interleaved by_head"; }

size_t value_of(const Json& json, const std::string& key, const char* words) {
  const std::string& given = json.as_string(key);
  const std::vector<std::string> known = split_words(words);
  const auto found = std::find(known.begin(), known.end(), given);
  CHECK(found != known.end(), "%s: %s is \"%s\", expected one of: %s", json.where().c_str(), key.c_str(), given.c_str(), words);
  return static_cast<size_t>(found - known.begin());
}

Json write(Dtype value) { return name(value); }
Json write(const std::optional<double>& value) { return value ? Json(*value) : Json(); }
template <class T>
Json write(const T& value) {
  if constexpr (std::is_enum_v<T>)
    return split_words(words(value)).at(static_cast<size_t>(value));
  else
    return value;
}
template <class T>
Json write(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T& value : values) list.push(write(value));
  return list;
}

void read(const Json& json, const std::string& key, int64_t& value) { value = json.as_integer(key); }
void read(const Json& json, const std::string& key, double& value) { value = json.as_number(key); }
void read(const Json& json, const std::string& key, bool& value) { value = json.as_bool(key); }
void read(const Json& json, const std::string& key, std::string& value) { value = json.as_string(key); }
void read(const Json& json, const std::string& key, std::optional<double>& value) {
  if (json.is_null())
    value.reset();
  else
    value = json.as_number(key);
}
void read(const Json& json, const std::string& key, Dtype& value) {
  const std::string& word = json.as_string(key);
  CHECK(word == name(Dtype::f32) || word == name(Dtype::f16), "%s: %s is \"%s\", expected f32 or f16", json.where().c_str(), key.c_str(),
        word.c_str());
  value = word == name(Dtype::f16) ? Dtype::f16 : Dtype::f32;
}
template <class E, class = std::enable_if_t<std::is_enum_v<E>>>
void read(const Json& json, const std::string& key, E& value) {
  value = static_cast<E>(value_of(json, key, words(value)));
}
template <class T>
void read(const Json& json, const std::string& key, std::vector<T>& values) {
  values.clear();
  for (const Json& element : json.as_array(key)) read(element, key, values.emplace_back());
}

// The list of all fields and their names.
template <class F>
void each_field(Config& c, F f) {
  f("family", c.family);
  f("vocab", c.vocab);
  f("width", c.width);
  f("layers", c.layers);
  f("heads", c.heads);
  f("kv_heads", c.kv_heads);
  f("head_dim", c.head_dim);
  f("key_dim", c.key_dim);
  f("value_dim", c.value_dim);
  f("mlp_width", c.mlp_width);
  f("context", c.context);
  f("windows", c.windows);
  f("tied", c.tied);
  f("post_embed_norm", c.post_embed_norm);
  f("learned_positions", c.learned_positions);
  f("qkv_bias", c.qkv_bias);
  f("out_bias", c.out_bias);
  f("mlp_bias", c.mlp_bias);
  f("residual", c.residual);
  f("qk_norm", c.qk_norm);
  f("mlp", c.mlp);
  f("gelu", c.gelu);
  f("norm.kind", c.norm.kind);
  f("norm.weight", c.norm.weight);
  f("norm.bias", c.norm.bias);
  f("norm.eps", c.norm.eps);
  f("rope.layout", c.rope.layout);
  f("rope.base", c.rope.base);
  f("rope.scale", c.rope.scale);
  f("rope.dims", c.rope.dims);
  f("rope.divisors", c.rope.divisors);
  f("rope.magnitude", c.rope.magnitude);
  f("decay.kind", c.decay.kind);
  f("decay.start", c.decay.start);
  f("decay.source", c.decay.source);
  f("per_head_feature_map", c.per_head_feature_map);
  f("rope_before_map", c.rope_before_map);
  f("output_norm", c.output_norm);
  f("output_gate", c.output_gate);
  f("mixers", c.mixers);
  f("lora.rank", c.lora.rank);
  f("lora.alpha", c.lora.alpha);
  f("lora.on", c.lora.on);
  // the fields from here on are described only if they differ from the default (kLastAlwaysSaid)
  f("sinks", c.sinks);
  f("far_features", c.far_features);
  f("state_dtype", c.state_dtype);
  f("feature_map", c.feature_map);
  f("rotates", c.rotates);
  f("short_convolution", c.short_convolution);
  f("rope.trained", c.rope.trained);
  f("rope.long_divisors", c.rope.long_divisors);
  f("rope.dynamic", c.rope.dynamic);
  f("turns", c.turns);
  f("local_rope_base", c.local_rope_base);
  f("embedding_scale", c.embedding_scale);
  f("residual_scale", c.residual_scale);
  f("score_scale", c.score_scale);
  f("score_cap", c.score_cap);
  f("qkv_clip", c.qkv_clip);
  f("logit_scale", c.logit_scale);
  f("logit_cap", c.logit_cap);
}

Json fields(Config c) {
  Json json = Json::object();
  each_field(c, [&](const char* name, auto& field) { json.set(name, write(field)); });
  return json;
}

// The fields after this one are newer than the first saved states, which identify their model by a hash of its description.
// They are described only if they differ from the default, so that the hash of older models stays the same.
constexpr std::string_view kLastAlwaysSaid = "lora.on";

}  // namespace

Json describe(const Config& config) {
  const Json all = fields(config), unsaid = fields({});
  Json json = Json::object();
  bool always = true;
  for (size_t i = 0; i < all.as_object().size(); i++) {
    const Json::Member& field = all.as_object()[i];
    if (always || !(field == unsaid.as_object()[i])) json.set(field.key, field.value);
    always = always && field.key != kLastAlwaysSaid;
  }
  return json;
}

void set_fields(Config& config, const Json& json) {
  for (const Json::Member& member : json.as_object()) {
    bool known = false;
    each_field(config, [&](const char* name, auto& field) {
      if (member.key != name) return;
      known = true;
      read(member.value, member.key, field);
    });
    CHECK(known, "%s: key %s is not known to this version", member.value.where().c_str(), member.key.c_str());
  }
}

int64_t read_count(const Json& json, std::string_view key, std::optional<int64_t> otherwise, int64_t most) {
  if (otherwise && !json.find(key)) return *otherwise;
  const int64_t value = json.integer(key);
  CHECK(value >= 1 && value <= most, "%s: key %s is %ld, expected 1 to %ld", json.at(key).where().c_str(),
        std::string(key).c_str(), static_cast<long>(value), static_cast<long>(most));
  return value;
}

}  // namespace supra
