#include "supra/formats/config/openlm_config.h"

#include <algorithm>

#include "supra/formats/config/config_json.h"

namespace supra {

namespace {

struct NormName {
  const char* name;
  NormConfig::Kind kind;
  bool weight, bias;
};

// "lp" norms were only computed in another precision. Of two names for the same norm the first is written.
const NormName kNorms[] = {
    {"rms_norm", NormConfig::Kind::rms, true, false},
    {"default_layer_norm", NormConfig::Kind::layer, true, true},
    {"lp_layer_norm", NormConfig::Kind::layer, true, true},
    {"gain_only_lp_layer_norm", NormConfig::Kind::layer, true, false},
    {"gain_only_layer_norm", NormConfig::Kind::layer, true, false},
    {"no_wb_layer_norm", NormConfig::Kind::layer, false, false},
};

struct RopeName {
  const char* name;
  Rope::Layout layout;
  bool has_base_and_scale;  // otherwise 10000 and 1, whatever the config says
};

const RopeName kRopes[] = {
    {"rotary", Rope::Layout::half, true},
    {"llama_rotary", Rope::Layout::interleaved, false},
    {"head_rotary", Rope::Layout::by_head, false},
    {"none", Rope::Layout::none, true},
};

struct MlpName {
  const char* name;
  MlpKind kind;
};

const MlpName kMlps[] = {
    {"swiglu", MlpKind::swiglu},
    {"swiglu_torch", MlpKind::swiglu},
    {"gelu", MlpKind::gelu},
    {"gemma_geglu", MlpKind::geglu},
    // the nearest one; the exact kind is under the key "supra"
    {"gemma_geglu", MlpKind::packed_geglu},
};

// The row of a table with the name in json[key].
template <class Row, size_t n>
const Row& row_named(const Row (&table)[n], const Json& json, const char* key, const char* otherwise) {
  const std::string name = json.text(key, otherwise);
  std::string known;
  for (const Row& row : table) {
    if (name == row.name) return row;
    known += (known.empty() ? "" : ", ") + std::string(row.name);
  }
  fail("%s: %s \"%s\" is not supported (supported: %s)", json.at(key).where().c_str(), key, name.c_str(), known.c_str());
}

// The file's spelling of a key.
const char* spelled(const Json& json, const char* training, const char* published) {
  return json.find(published) && !json.find(training) ? published : training;
}

MixerKind read_mixer(const Json& json) {
  const std::string name = json.text("attn_name", "auto");
  if (name == "linear_attn") return MixerKind::supra;
  const bool softmax = name == "auto" || name == "xformers_attn" || name == "torch_attn";
  CHECK(softmax,
        "%s: attn_name \"%s\" is not supported (supported: linear_attn, auto, xformers_attn, torch_attn)",
        json.at("attn_name").where().c_str(), name.c_str());
  return MixerKind::softmax;
}

// Reads OpenLM's own keys. Does not check that the heads divide the width.
Config read_openlm_keys(const Json& json) {
  CHECK(json.integer("moe_freq", 0) == 0, "%s: mixture of experts (moe_freq) is not supported", json.where().c_str());
  Config c;
  c.width = read_count(json, spelled(json, "hidden_dim", "dim"));
  c.layers = read_count(json, "n_layers", {}, kMostLayers);
  c.heads = read_count(json, "n_heads");
  c.kv_heads = read_count(json, "n_heads_kv", c.heads);
  c.vocab = read_count(json, "vocab_size");
  c.context = read_count(json, "seq_len", 2048);
  c.tied = json.flag("weight_tying", false);
  c.post_embed_norm = json.flag("post_embed_norm", false);
  if (json.flag(spelled(json, "qk_norm", "apply_qk_norm"), false)) c.qk_norm = QkNorm::whole;

  // in softmax layers q and k have qk_head_dim; linear layers split the width evenly, and the feature map outputs qk_head_dim
  const MixerKind mixer = read_mixer(json);
  c.mixers.assign(static_cast<size_t>(c.layers), mixer);
  const int64_t share = std::max<int64_t>(1, c.width / c.heads);
  c.key_dim = read_count(json, "qk_head_dim", share);
  c.value_dim = read_count(json, "v_head_dim", share);
  c.head_dim = mixer == MixerKind::supra ? share : c.key_dim;

  c.mlp = row_named(kMlps, json, "ffn_type", "swiglu").kind;
  const int64_t usual = (8 * c.width / 3 + 255) / 256 * 256;
  c.mlp_width = c.mlp == MlpKind::gelu ? 4 * c.width : read_count(json, "intermediate_dim_ffn", usual);

  const NormName& norm =
      row_named(kNorms, json, spelled(json, "model_norm", "norm_type"), "default_layer_norm");
  c.norm = {norm.kind, norm.weight, norm.bias, json.number("norm_eps", 1e-5)};

  const RopeName& rope = row_named(kRopes, json, "positional_embedding_type", "rotary");
  c.rope.layout = rope.layout;
  if (rope.has_base_and_scale) {
    c.rope.base = json.number("rotary_base_frequency", 10000);
    c.rope.scale = json.number("rotary_scale", 1);
  }

  const bool decays = json.flag("use_decay", false), retnet = json.flag("use_retnet_slopes", false);
  c.decay.kind = !decays  ? DecayConfig::Kind::none
                 : retnet ? DecayConfig::Kind::retnet
                          : DecayConfig::Kind::lightning;
  if (json.find("decay_start")) c.decay.start = json.number("decay_start");
  return c;
}

const char* norm_name(const NormConfig& norm) {
  for (const NormName& row : kNorms) {
    if (row.kind == norm.kind && row.weight == norm.weight && row.bias == norm.bias) return row.name;
  }
  fail("config.json: OpenLM has no RMS norm %s", norm.bias ? "with a bias" : "without a gain");
}

template <class Row, size_t n, class F>
const char* name_of_row(const Row (&table)[n], F matches) {
  return std::find_if(std::begin(table), std::end(table), matches)->name;
}

Json write_openlm_keys(const Config& c) {
  const bool linear = has_head_states(c);
  Json json = Json::object();
  json.set("hidden_dim", c.width);
  json.set("n_layers", c.layers);
  json.set("n_heads", c.heads);
  json.set("n_heads_kv", c.kv_heads);
  json.set("qk_head_dim", c.key_dim);
  json.set("v_head_dim", c.value_dim);
  json.set("seq_len", c.context);
  json.set("vocab_size", c.vocab);
  json.set("post_embed_norm", c.post_embed_norm);
  json.set("weight_tying", c.tied);
  json.set("model_norm", norm_name(c.norm));
  json.set("norm_eps", c.norm.eps);
  json.set("qk_norm", c.qk_norm == QkNorm::whole);
  json.set("ffn_type", name_of_row(kMlps, [&](const MlpName& row) { return row.kind == c.mlp; }));
  json.set("intermediate_dim_ffn", c.mlp_width);
  json.set("positional_embedding_type", name_of_row(kRopes, [&](const RopeName& row) { return row.layout == c.rope.layout; }));
  json.set("rotary_base_frequency", c.rope.base);
  json.set("rotary_scale", c.rope.scale);
  json.set("attn_name", linear ? "linear_attn" : "auto");
  json.set("use_decay", c.decay.kind != DecayConfig::Kind::none);
  json.set("use_retnet_slopes", c.decay.kind == DecayConfig::Kind::retnet);
  json.set("decay_start", c.decay.start ? Json(*c.decay.start) : Json());
  return json;
}

// The fields that a reader of these keys alone would get wrong.
Json misread(const Config& c, const Json& keys) {
  Json fields = Json::object();
  const Json wanted = describe(c), understood = describe(read_openlm_keys(keys));
  for (size_t i = 0; i < wanted.as_object().size(); i++) {
    const Json::Member& field = wanted.as_object()[i];
    if (i >= understood.as_object().size() || !(field == understood.as_object()[i])) fields.set(field.key, field.value);
  }
  return fields;
}

}  // namespace

Config read_openlm_config(const Json& json) {
  Config config = read_openlm_keys(json);
  const Json* ours = json.find("supra");
  if (ours) set_fields(config, *ours);
  const bool own_head_dim = ours && ours->find("head_dim");
  CHECK(own_head_dim || config.width % config.heads == 0, "%s: a width of %ld is not divisible by %ld heads",
        json.where().c_str(), static_cast<long>(config.width), static_cast<long>(config.heads));
  check_config(config, json.where());
  return config;
}

Json beyond_openlm(const Config& c) {
  Config known = c;
  known.family = "openlm";
  // windows of 0 mean no windows
  if (std::all_of(c.windows.begin(), c.windows.end(), [](int64_t window) { return window == 0; }))
    known.windows.clear();
  Json fields = misread(known, write_openlm_keys(c));
  // OpenLM's tables of angles have the width of an even share
  if (c.rope.layout != Rope::Layout::none && c.key_dim != c.width / c.heads) fields.set("key_dim", c.key_dim);
  return fields;
}

Json write_openlm_config(const Config& c) {
  Json json = write_openlm_keys(c);
  const Json ours = misread(c, json);
  if (!ours.as_object().empty()) json.set("supra", ours);
  return json;
}

}  // namespace supra
