#include "supra/formats/config/gguf_config.h"

#include <cmath>

#include "supra/formats/config/rope_scaling.h"
#include "supra/formats/families.h"

namespace supra {

namespace {

// Reads the keys that begin with the name of the architecture.
struct Keys {
  const Gguf& file;
  std::string prefix;

  std::string name(const char* key) const { return prefix + key; }
  bool has(const char* key) const { return file.has(name(key)); }
  double number(const char* key) const { return file.number(name(key)); }
  double number(const char* key, double otherwise) const { return has(key) ? number(key) : otherwise; }
  int64_t count(const char* key, std::optional<int64_t> otherwise = {}, int64_t most = INT32_MAX) const {
    if (otherwise && !has(key)) return *otherwise;
    const int64_t n = file.integer(name(key));
    if (n < 1 || n > most) refuse(key, format("%ld, expected 1 to %ld", static_cast<long>(n), static_cast<long>(most)));
    return n;
  }
  [[noreturn]] void refuse(const char* key, const std::string& why) const {
    fail("%s: value %s is %s", file.path().c_str(), name(key).c_str(), why.c_str());
  }
};

// Frequencies that are not a power series (Llama 3, Phi-3): a tensor of the file has a divisor for each pair.
std::vector<double> read_divisors(const Gguf& file, const char* name) {
  const Tensor factors = file.get(name).to(Dtype::f64);
  return {factors.data<double>(), factors.data<double>() + factors.numel()};
}

Rope read_rope(const Keys& keys, int64_t head_dim, int64_t context) {
  const Gguf& file = keys.file;
  Rope rope;
  rope.base = keys.number("rope.freq_base", 10000);
  const int64_t dims = keys.count("rope.dimension_count", head_dim);
  if (dims != head_dim) rope.dims = dims;
  if (file.find("rope_freqs.weight")) rope.divisors = read_divisors(file, "rope_freqs.weight");

  const std::string type(file.text(keys.name("rope.scaling.type"), "none"));
  const double factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1));
  const int64_t trained = keys.count("rope.scaling.original_context_length", context);
  if (file.find("rope_factors_short.weight")) {
    rope.divisors = read_divisors(file, "rope_factors_short.weight");
    rope.long_divisors = read_divisors(file, "rope_factors_long.weight");
    rope.trained = rope.divisors == rope.long_divisors ? 0 : trained;
    if (rope.trained == 0) rope.long_divisors.clear();
    rope.magnitude = keys.number("rope.scaling.attn_factor", 1);
  } else if (type == "yarn") {
    scale_yarn(rope, dims, trained, factor, keys.number("rope.scaling.yarn_beta_fast", 32), keys.number("rope.scaling.yarn_beta_slow", 1));
    rope.magnitude *= keys.number("rope.scaling.attn_factor", 1);
  } else if (type == "linear" || type == "none") {
    rope.scale = factor;
  } else {
    keys.refuse("rope.scaling.type",
                type + ", known are none, linear and yarn, and longrope with its tensors rope_factors_short and _long");
  }
  return rope;
}

// The window and the rope of each layer. llama.cpp's rule applies if no key says otherwise.
void read_layers(const Keys& keys, const Family& family, Config& c) {
  const int64_t window = keys.file.integer(keys.name("attention.sliding_window"), 0);
  const int64_t period = family.period > 1 ? keys.count("attention.sliding_window_pattern", family.period) : family.period;
  if (window < 0 || (window > 0 && period == 0))
    keys.refuse("attention.sliding_window", "not 0: windows of this architecture are not supported");
  const bool gemma3 = family.is("gemma3_text"), smollm3 = family.is("smollm3");
  if (gemma3) c.local_rope_base = keys.number("rope.freq_base_swa", 10000);
  for (int64_t i = 0; i < c.layers; i++) {
    const bool windowed = window > 0 && (period == 1 || (i + 1) % period != 0);
    if (window > 0) c.windows.push_back(windowed ? window : 0);
    if (gemma3 || smollm3) c.turns.push_back(gemma3 ? (windowed ? Turn::local : Turn::rope) : (i + 1) % 4 ? Turn::rope : Turn::none);
  }
}

void read_scales(const Keys& keys, const Family& family, Config& c) {
  const bool gemma2 = family.is("gemma2");
  c.score_scale = keys.number("attention.scale", 0);
  c.score_cap = keys.number("attn_logit_softcapping", gemma2 ? 50 : 0);
  c.logit_cap = keys.number("final_logit_softcapping", gemma2 ? 30 : 0);
  c.embedding_scale = keys.number("embedding_scale", 1);
  c.residual_scale = keys.number("residual_scale", 1);
  c.qkv_clip = keys.number("attention.clamp_kqv", 0);
  c.logit_scale = keys.number("logit_scale", 1);
  if (family.is("granite")) c.logit_scale = 1 / c.logit_scale;
  if (c.mlp != MlpKind::packed_geglu) return;
  const auto width = static_cast<double>(c.width);
  c.embedding_scale = std::sqrt(width);
  c.score_scale = 1 / std::sqrt(c.layers == family.largest ? width / static_cast<double>(c.heads) : static_cast<double>(c.head_dim));
}

}  // namespace

Config read_gguf_config(const Gguf& file) {
  const std::string architecture(file.text("general.architecture"));
  const Keys keys = {file, architecture + "."};
  const Family& family = family_by(&Family::architecture, architecture, file.path().string());
  if (keys.number("expert_count", 0) != 0) keys.refuse("expert_count", "not 0: mixtures of experts are not supported");
  Config c = family.config();
  c.family = architecture;
  c.width = keys.count("embedding_length");
  c.layers = keys.count("block_count", {}, kMostLayers);
  c.heads = keys.count("attention.head_count");
  c.kv_heads = keys.count("attention.head_count_kv", c.heads);
  c.mlp_width = keys.count("feed_forward_length");
  c.context = keys.count("context_length");
  c.head_dim = c.key_dim = keys.count("attention.key_length", std::max<int64_t>(1, c.width / c.heads));
  c.value_dim = keys.count("attention.value_length", c.head_dim);
  const TensorInfo* embedding = file.find("token_embd.weight");
  CHECK(embedding && embedding->shape.size() == 2, "%s: has no matrix token_embd.weight (perhaps the file has only a vocabulary)",
        file.path().c_str());
  c.vocab = embedding->shape[0];
  c.tied = !file.find("output.weight");
  c.norm.eps = keys.number(c.norm.kind == NormConfig::Kind::layer ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon");
  c.qkv_bias = file.find("blk.0.attn_q.bias") || file.find("blk.0.attn_qkv.bias");
  c.out_bias = file.find("blk.0.attn_output.bias");
  c.mlp_bias = file.find("blk.0.ffn_up.bias");
  CHECK(c.qk_norm != QkNorm::none || !file.find("blk.0.attn_q_norm.weight"),
        "%s: a %s with norms of queries (blk.0.attn_q_norm.weight) is not supported", file.path().c_str(), architecture.c_str());
  if (file.flag(keys.name("use_parallel_residual"), false)) c.residual = Residual::parallel;
  c.learned_positions = family.is("gpt2");
  if (family.is("gpt2")) c.rope.layout = Rope::Layout::none;
  else c.rope = read_rope(keys, c.head_dim, c.context);
  if (family.is("cohere")) c.rope.layout = Rope::Layout::interleaved;
  read_layers(keys, family, c);
  read_scales(keys, family, c);
  // the row order of neighbours is known only for heads that are rotated as a whole
  if (family.neighbours && c.rope.dims != 0)
    keys.refuse("rope.dimension_count", format("%ld, a %s turns all %ld dimensions of a head", static_cast<long>(c.rope.dims),
                                               architecture.c_str(), static_cast<long>(c.head_dim)));
  c.mixers.assign(static_cast<size_t>(c.layers), MixerKind::softmax);
  check_config(c, file.path().string());
  return c;
}

}  // namespace supra
