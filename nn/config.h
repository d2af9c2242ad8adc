#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/ops.h"

// What a decoder looks like: one description for every family, softmax or recurrent. Readers of foreign formats fill it;
// the decoder is built from it; checkpoints store it.

namespace supra {

enum class MixerKind {
  softmax,
  supra,
  window,  // exact softmax over sinks and the last keys, a state for those before: supra/window_attention.h
  delta    // the gated delta rule: supra/delta_attention.h
};

// What evaluation leaves of a window layer, to see what each part does.
enum class MixerParts {
  all,
  window,  // sinks and window alone
  far,     // the state alone
  none     // the layer's attention gives 0
};

struct NormConfig {
  enum class Kind { rms, layer };
  Kind kind = Kind::rms;
  bool weight = true, bias = false;
  double eps = 1e-5;
};

// How a layer adds to the stream x.
enum class Residual {
  pre_norm,  // x += mixer(norm(x));  x += mlp(norm(x))
  parallel,  // x += mixer(norm(x)) + mlp(norm'(x)): GPT-NeoX
  post_norm,  // x += norm(mixer(x));  x += norm(mlp(x)): OLMo2
  one_norm,   // n = norm(x);  x += mixer(n) + mlp(n): Cohere
  both_norms  // x += norm'(mixer(norm(x)));  x += norm'(mlp(norm(x))): Gemma 2
};

enum class QkNorm {
  none,
  whole,    // over all heads together: OpenLM, OLMo2
  per_head  // each head by itself, with one gain for all: Qwen3
};

enum class MlpKind {
  swiglu,  // silu(gate) * up, packed w12 = [gate; up]
  gelu,    // two matrices
  geglu,   // gelu(gate) * up, separate matrices with biases (OpenLM's gemma_geglu)
  packed_geglu  // gelu(gate) * up, packed as swiglu's: Gemma
};

// By which angles a layer turns queries and keys.
enum class Turn {
  none,   // by none: the order of tokens reaches it through the others
  rope,   // the config's rope
  local   // one of the base local_rope_base, and nothing else of the rope's scaling: Gemma 3's layers with a window
};

// The decay of a SUPRA layer: g_h = exp(-slope_h), or what becomes of that in training.
struct DecayConfig {
  enum class Kind { none, lightning, retnet };
  Kind kind = Kind::lightning;
  std::optional<double> start;  // lightning: the first slope, where it is not the published one
  // fixed: SUPRA.   learned: one number a head.   gated: log g = logsigmoid(W x + b), a head and a token; the gated mixer.
  // The latter two start as the fixed one.
  enum class Source { fixed, learned, gated };
  Source source = Source::fixed;
};

// What a SUPRA layer does to a head's sum o of values before it goes on.
enum class OutputNorm {
  group,       // mean 0, variance 1: SUPRA
  denominator, // o / sum_j of the weights, as softmax does: T2R (arXiv 2103.13076)
  none
};

// Low-rank factors beside matrices of the layers, which are trained in their place (nn/lora.cpp).
struct LoraConfig {
  int64_t rank = 0;  // r; 0: there are none
  double alpha = 16;
  std::vector<std::string> on;  // patterns of the matrices' names

  bool operator==(const LoraConfig&) const = default;
};

struct Config {
  std::string family = "openlm";  // where the weights came from: "llama", "openlm", "llama2.c"; see formats/families.h
  int64_t vocab = 0;       // O
  int64_t width = 0;       // C
  int64_t layers = 0;      // L
  int64_t heads = 0;       // H
  int64_t kv_heads = 0;    // G
  int64_t head_dim = 0;    // of q and k as in_proj makes them
  int64_t key_dim = 0;     // K, of q and k as they are compared: after the feature map in a SUPRA layer, else head_dim
  int64_t value_dim = 0;   // V
  int64_t mlp_width = 0;   // F
  int64_t context = 0;     // steps of a training sequence; a softmax model knows no positions beyond
  std::vector<int64_t> windows;  // one a layer: the last tokens that its softmax sees, 0 for all; empty: all everywhere
  int64_t sinks = 0;             // of window layers: the first tokens, which their softmax always sees
  std::vector<int64_t> far_features;  // one a layer: features of a window layer's state for older keys; 0: none; empty: none in any layer
  Dtype state_dtype = Dtype::f32;     // f32 or f16: of the keys and values that window layers keep, on the CPU
  MixerParts parts = MixerParts::all;  // never stored
  bool tied = false;       // the output matrix is the embedding
  bool post_embed_norm = false;
  bool learned_positions = false;  // added to the embeddings, one for each step of the context: GPT-2
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  Residual residual = Residual::pre_norm;
  QkNorm qk_norm = QkNorm::none;
  MlpKind mlp = MlpKind::swiglu;
  Gelu gelu = Gelu::erf;
  NormConfig norm;
  Rope rope;
  std::vector<Turn> turns;         // one a layer; empty: all by the rope
  double local_rope_base = 10000;
  double embedding_scale = 1;      // embeddings are multiplied by it
  double residual_scale = 1;       // and what a branch adds to the stream by this one
  double score_scale = 0;          // of a softmax: q k is multiplied by it; 0: by 1 / sqrt(head_dim)
  double score_cap = 0;            // of a softmax: a score s becomes cap tanh(s / cap); 0: none
  double qkv_clip = 0;             // q, k and v are cut off at +-this as in_proj makes them; 0: none
  double logit_scale = 1;          // logits are multiplied by it,
  double logit_cap = 0;            // then a logit x becomes cap tanh(x / cap); 0: none
  DecayConfig decay;
  bool feature_map = true;              // of a SUPRA or delta layer; without one q and k are compared as in_proj makes them
  bool per_head_feature_map = false;    // block-diagonal: the feature map does not mix heads
  bool short_convolution = false;       // q, k and v of a delta layer are first mixed with those of the three steps before
  bool rotates = true;                  // a SUPRA or delta layer turns q and k by their positions
  bool rope_before_map = false;         // the feature map sees rotated q and k, which keeps what it makes positive
  OutputNorm output_norm = OutputNorm::group;
  bool output_gate = false;             // the normed outputs are multiplied by sigmoid(W x + b)
  std::vector<MixerKind> mixers;        // one a layer
  LoraConfig lora;                      // only in training: what is published has none
};

constexpr int64_t kMostLayers = 1 << 16;

// What a layer turns queries and keys by.
Rope rope_of(const Config& config, int64_t layer);

// Throws Error when the numbers contradict each other or cannot be meant; `where` is the file that gave them.
void check_config(const Config& config, const std::string& where);

// SUPRA and delta layers: all that is past is a state per head.
inline bool has_head_state(MixerKind kind) { return kind == MixerKind::supra || kind == MixerKind::delta; }
bool has_head_states(const Config& config);  // in some layer

// Some layers are window layers, and none has a state per head in the place of softmax: the student already attends as its teacher does.
bool is_window_student(const Config& config);

// Throws Error by name when a layer is not recurrent: a host's memory must not grow with the text.
void check_recurrent(const Config& config, const std::string& where);

}  // namespace supra
