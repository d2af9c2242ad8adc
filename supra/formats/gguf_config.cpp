#include "supra/formats/gguf_config.h"

#include <cmath>

#include "supra/formats/families.h"
#include "supra/formats/rope_scaling.h"

namespace supra {

namespace {

int64_t count(const Gguf& file, const std::string& key, std::optional<int64_t> otherwise = {}, int64_t most = INT32_MAX) {
  if (otherwise && !file.has(key)) return *otherwise;
  const int64_t n = file.integer(key);
  CHECK(n >= 1 && n <= most, "%s: value %s is %ld, expected 1 to %ld", file.path().c_str(), key.c_str(), static_cast<long>(n),
        static_cast<long>(most));
  return n;
}

// What an architecture has that no key of the file says.
struct GgufFamily {
  const char* architecture;
  NormConfig norm = {};
  MlpKind mlp = MlpKind::swiglu;
  Gelu gelu = Gelu::erf;
  QkNorm qk_norm = QkNorm::none;
  Residual residual = Residual::pre_norm;
  int64_t period = 0;    // windows: 0: in no layer, 1: in all, n: in all but every n-th
  int64_t largest = 0;   // Gemma's with so many layers: scores are scaled by the width of a head's share of the stream

  bool is(std::string_view name) const { return name == architecture; }
  bool is_gemma() const { return mlp == MlpKind::packed_geglu; }
};

constexpr NormConfig kLayerNorm = {NormConfig::Kind::layer, true, true}, kGainOnly = {NormConfig::Kind::layer, true, false},
                     kPlain = {NormConfig::Kind::layer, false, false};

const GgufFamily kFamilies[] = {
    {"llama"},
    {"qwen2"},
    {.architecture = "qwen3", .qk_norm = QkNorm::per_head},
    {.architecture = "olmo2", .qk_norm = QkNorm::whole, .residual = Residual::post_norm},
    {"gptneox", kLayerNorm, MlpKind::gelu},
    {"gpt2", kLayerNorm, MlpKind::gelu, Gelu::tanh},
    {.architecture = "phi3", .period = 1},
    {.architecture = "gemma2", .mlp = MlpKind::packed_geglu, .gelu = Gelu::tanh, .residual = Residual::both_norms, .period = 2, .largest = 46},
    {.architecture = "gemma3", .mlp = MlpKind::packed_geglu, .gelu = Gelu::tanh, .qk_norm = QkNorm::per_head, .residual = Residual::both_norms,
     .period = 6, .largest = 62},
    {"smollm3"},
    {"granite"},
    {.architecture = "starcoder2", .norm = kLayerNorm, .mlp = MlpKind::gelu, .gelu = Gelu::tanh, .period = 1},
    {.architecture = "command-r", .norm = kGainOnly, .residual = Residual::one_norm},
    {.architecture = "olmo", .norm = kPlain},
};

const GgufFamily& family_of(const Gguf& file, std::string_view architecture) {
  std::string known;
  for (const GgufFamily& family : kFamilies) {
    if (family.is(architecture)) return family;
    known += (known.empty() ? "" : ", ") + std::string(family.architecture);
  }
  fail("%s: architecture \"%s\" is not supported (supported: %s)", file.path().c_str(), std::string(architecture).c_str(), known.c_str());
}

// Where the frequencies are no power series: one divisor a pair, in a tensor of the file (Llama 3, Phi-3).
std::vector<double> read_divisors(const Gguf& file, const char* name) {
  const Tensor factors = file.get(name).to(Dtype::f64);
  return {factors.data<double>(), factors.data<double>() + factors.numel()};
}

Rope read_rope(const Gguf& file, const std::string& prefix, int64_t head_dim, int64_t context) {
  Rope rope;
  rope.base = file.number(prefix + "rope.freq_base", 10000);
  const int64_t dims = count(file, prefix + "rope.dimension_count", head_dim);
  if (dims != head_dim) rope.dims = dims;
  if (file.find("rope_freqs.weight")) rope.divisors = read_divisors(file, "rope_freqs.weight");

  const std::string scaling = prefix + "rope.scaling.", type(file.text(scaling + "type", "none"));
  const double factor = file.number(scaling + "factor", file.number(prefix + "rope.scale_linear", 1));
  const int64_t trained = count(file, scaling + "original_context_length", context);
  if (file.find("rope_factors_short.weight")) {
    rope.divisors = read_divisors(file, "rope_factors_short.weight");
    rope.long_divisors = read_divisors(file, "rope_factors_long.weight");
    rope.trained = trained;
    rope.magnitude = file.number(scaling + "attn_factor", 1);
  } else if (type == "yarn") {
    scale_yarn(rope, dims, trained, factor, file.number(scaling + "yarn_beta_fast", 32), file.number(scaling + "yarn_beta_slow", 1));
    rope.magnitude *= file.number(scaling + "attn_factor", 1);
  } else if (type == "linear" || type == "none") {
    rope.scale = factor;
  } else {
    fail("%s: value %stype is \"%s\", known are none, linear and yarn, and longrope with its tensors rope_factors_short and _long",
         file.path().c_str(), scaling.c_str(), type.c_str());
  }
  return rope;
}

// Windows, and what a layer is turned by; as llama.cpp has it where no key says so.
void read_layers(const Gguf& file, const std::string& prefix, const GgufFamily& family, Config& c) {
  const std::string key = prefix + "attention.sliding_window";
  const int64_t window = file.integer(key, 0), period = family.period > 1 ? count(file, key + "_pattern", family.period) : family.period;
  CHECK(window == 0 || (window > 0 && period > 0), "%s: value %s is %ld, and a %s has no windows here: ignoring it would give wrong results",
        file.path().c_str(), key.c_str(), static_cast<long>(window), family.architecture);
  const auto has_window = [&](int64_t i) { return window > 0 && (period == 1 || (i + 1) % period != 0); };
  for (int64_t i = 0; window > 0 && i < c.layers; i++) c.windows.push_back(has_window(i) ? window : 0);
  if (family.is("gemma3")) {
    c.local_rope_base = file.number(prefix + "rope.freq_base_swa", 10000);
    for (int64_t i = 0; i < c.layers; i++) c.turns.push_back(has_window(i) ? Turn::local : Turn::rope);
  }
  if (family.is("smollm3")) {
    for (int64_t i = 0; i < c.layers; i++) c.turns.push_back((i + 1) % 4 ? Turn::rope : Turn::none);
  }
}

void read_scales(const Gguf& file, const std::string& prefix, const GgufFamily& family, Config& c) {
  c.score_scale = file.number(prefix + "attention.scale", 0);
  c.score_cap = file.number(prefix + "attn_logit_softcapping", family.is("gemma2") ? 50 : 0);
  c.logit_cap = file.number(prefix + "final_logit_softcapping", family.is("gemma2") ? 30 : 0);
  c.embedding_scale = file.number(prefix + "embedding_scale", 1);
  c.residual_scale = file.number(prefix + "residual_scale", 1);
  c.qkv_clip = file.number(prefix + "attention.clamp_kqv", 0);
  const double logits = file.number(prefix + "logit_scale", 1);
  c.logit_scale = family.is("granite") ? 1 / logits : logits;
  if (!family.is_gemma()) return;
  c.embedding_scale = std::sqrt(static_cast<double>(c.width));
  if (c.layers == family.largest) c.score_scale = 1 / std::sqrt(static_cast<double>(c.width) / static_cast<double>(c.heads));
}

}  // namespace

Config read_gguf_config(const Gguf& file) {
  const std::string architecture(file.text("general.architecture")), prefix = architecture + ".";
  const GgufFamily& family = family_of(file, architecture);
  CHECK(file.integer(prefix + "expert_count", 0) == 0, "%s: value %sexpert_count is not supported, and ignoring it would give wrong results",
        file.path().c_str(), prefix.c_str());
  Config c;
  c.family = architecture;
  c.width = count(file, prefix + "embedding_length");
  c.layers = count(file, prefix + "block_count", {}, kMostLayers);
  c.heads = count(file, prefix + "attention.head_count");
  c.kv_heads = count(file, prefix + "attention.head_count_kv", c.heads);
  c.head_dim = count(file, prefix + "attention.key_length", std::max<int64_t>(1, c.width / c.heads));
  c.key_dim = c.head_dim;
  c.value_dim = count(file, prefix + "attention.value_length", c.head_dim);
  c.mlp_width = count(file, prefix + "feed_forward_length");
  c.context = count(file, prefix + "context_length");
  const TensorInfo* embedding = file.find("token_embd.weight");
  CHECK(embedding && embedding->shape.size() == 2, "%s: has no matrix token_embd.weight (it may hold a vocabulary and no model)",
        file.path().c_str());
  c.vocab = embedding->shape[0];
  c.tied = !file.find("output.weight");
  c.norm = family.norm;
  c.norm.eps = file.number(prefix + (c.norm.kind == NormConfig::Kind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"));
  c.qkv_bias = file.find("blk.0.attn_q.bias") || file.find("blk.0.attn_qkv.bias");
  c.out_bias = file.find("blk.0.attn_output.bias");
  c.mlp_bias = file.find("blk.0.ffn_up.bias");
  c.mlp = family.mlp;
  c.gelu = family.gelu;
  c.qk_norm = family.qk_norm;
  CHECK(c.qk_norm != QkNorm::none || !file.find("blk.0.attn_q_norm.weight"),
        "%s: blk.0.attn_q_norm.weight is the norm of queries of a %s, which is not supported: ignoring it would give wrong results",
        file.path().c_str(), architecture.c_str());
  c.residual = file.flag(prefix + "use_parallel_residual", false) ? Residual::parallel : family.residual;
  c.learned_positions = family.is("gpt2");
  if (family.is("gpt2")) c.rope.layout = Rope::Layout::none;
  else c.rope = read_rope(file, prefix, c.head_dim, c.context);
  if (family.is("command-r")) c.rope.layout = Rope::Layout::interleaved;
  read_layers(file, prefix, family, c);
  read_scales(file, prefix, family, c);
  // rows as pairs of neighbours are undone for whole heads
  CHECK(!gguf_turns_rows(architecture) || c.rope.dims == 0, "%s: value %srope.dimension_count is %ld, a %s turns all %ld dimensions of a head",
        file.path().c_str(), prefix.c_str(), static_cast<long>(c.rope.dims), architecture.c_str(), static_cast<long>(c.head_dim));
  c.mixers.assign(static_cast<size_t>(c.layers), MixerKind::softmax);
  check_config(c, file.path().string());
  return c;
}

}  // namespace supra
