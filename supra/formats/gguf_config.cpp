#include "supra/formats/gguf_config.h"

#include <cmath>

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

// Where the frequencies are no power series: one divisor a pair, in a tensor of the file (Llama 3).
std::vector<double> read_divisors(const Gguf& file) {
  const Tensor factors = file.get("rope_freqs.weight").to(Dtype::f64);
  return {factors.data<double>(), factors.data<double>() + factors.numel()};
}

Rope read_rope(const Gguf& file, const std::string& prefix, int64_t head_dim, int64_t context) {
  Rope rope;
  rope.base = file.number(prefix + "rope.freq_base", 10000);
  const int64_t dims = count(file, prefix + "rope.dimension_count", head_dim);
  if (dims != head_dim) rope.dims = dims;
  if (file.find("rope_freqs.weight")) rope.divisors = read_divisors(file);

  const std::string scaling = prefix + "rope.scaling.", type(file.text(scaling + "type", "none"));
  const double factor = file.number(scaling + "factor", file.number(prefix + "rope.scale_linear", 1));
  if (type == "yarn") {
    const int64_t trained = count(file, scaling + "original_context_length", context);
    scale_yarn(rope, dims, trained, factor, file.number(scaling + "yarn_beta_fast", 32), file.number(scaling + "yarn_beta_slow", 1));
    rope.magnitude *= file.number(scaling + "attn_factor", 1);
  } else if (type == "linear" || type == "none") {
    rope.scale = factor;
  } else {
    fail("%s: value %stype is \"%s\", known are none, linear and yarn", file.path().c_str(), scaling.c_str(), type.c_str());
  }
  return rope;
}

}  // namespace

Config read_gguf_config(const Gguf& file) {
  const std::string architecture(file.text("general.architecture")), prefix = architecture + ".";
  const auto is = [&](const char* name) { return architecture == name; };
  const bool gpt = is("gpt2") || is("gptneox");
  CHECK(gpt || is("llama") || is("qwen2") || is("qwen3") || is("olmo2"),
        "%s: architecture \"%s\" is not supported (supported: llama, qwen2, qwen3, olmo2, gptneox, gpt2)", file.path().c_str(),
        architecture.c_str());
  for (const char* key : {"expert_count", "attention.sliding_window"}) {
    CHECK(file.integer(prefix + key, 0) == 0, "%s: value %s%s is not supported, and ignoring it would give wrong results",
          file.path().c_str(), prefix.c_str(), key);
  }
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
  c.norm.eps = file.number(prefix + (gpt ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon"));
  c.qkv_bias = file.find("blk.0.attn_q.bias") || file.find("blk.0.attn_qkv.bias");
  c.out_bias = file.find("blk.0.attn_output.bias");
  c.mlp_bias = file.find("blk.0.ffn_up.bias");
  if (gpt) {
    c.norm.kind = NormConfig::Kind::layer;
    c.norm.bias = true;
    c.mlp = MlpKind::gelu;
    c.gelu = is("gpt2") ? Gelu::tanh : Gelu::erf;
    if (file.flag(prefix + "use_parallel_residual", false)) c.residual = Residual::parallel;
  }
  if (is("qwen3")) c.qk_norm = QkNorm::per_head;
  if (is("olmo2")) {
    c.qk_norm = QkNorm::whole;
    c.residual = Residual::post_norm;
  }
  c.learned_positions = is("gpt2");
  if (is("gpt2")) c.rope.layout = Rope::Layout::none;
  else c.rope = read_rope(file, prefix, c.head_dim, c.context);
  CHECK(!is("llama") || c.rope.dims == 0, "%s: value %srope.dimension_count is %ld, a llama turns all %ld dimensions of a head",
        file.path().c_str(), prefix.c_str(), static_cast<long>(c.rope.dims), static_cast<long>(c.head_dim));
  c.mixers.assign(static_cast<size_t>(c.layers), MixerKind::softmax);
  check_config(c, file.path().string());
  return c;
}

}  // namespace supra
