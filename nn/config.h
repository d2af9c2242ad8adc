#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kernels/ops.h"

// The description of a decoder, the same for every model family, softmax or recurrent. Readers of model files fill it, the
// decoder is built from it, and checkpoints store it.

namespace supra {

enum class MixerKind {
  softmax,
  supra,
  window,  // softmax over sinks and the last keys, a state for older keys: supra/window_attention.h
  delta    // the gated delta rule: supra/delta_attention.h
};

// The parts of a window layer that an evaluation uses, to measure what each part contributes.
enum class MixerParts {
  all,
  window,  // only sinks and window
  far,     // only the state
  none     // the output of the layer's attention is 0
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
  per_head  // each head separately, with the same gain for all: Qwen3
};

enum class MlpKind {
  swiglu,  // silu(gate) * up, packed w12 = [gate; up]
  gelu,    // two matrices
  geglu,   // gelu(gate) * up, separate matrices with biases (OpenLM's gemma_geglu)
  packed_geglu  // gelu(gate) * up, packed as swiglu's: Gemma
};

// How a layer rotates queries and keys.
enum class Turn {
  none,   // not at all: SmolLM3's layers without RoPE
  rope,   // by the config's rope
  local   // by a rope with base local_rope_base and no scaling: Gemma 3's window layers
};

// The decay of a SUPRA layer: g_h = exp(-slope_h), or learned from that start.
struct DecayConfig {
  enum class Kind { none, lightning, retnet };
  Kind kind = Kind::lightning;
  std::optional<double> start;  // lightning: the first slope, if it is not the published one
  // fixed: SUPRA.   learned: one number per head.   gated: log g = logsigmoid(W x + b), one number per head and token.
  // learned and gated start at the values of fixed.
  enum class Source { fixed, learned, gated };
  Source source = Source::fixed;
};

// How a SUPRA layer normalises the output o of a head.
enum class OutputNorm {
  group,       // mean 0, variance 1: SUPRA
  denominator, // o / sum_j of the weights, as softmax does: T2R (arXiv 2103.13076)
  none
};

// Low-rank factors of matrices of the layers; they are trained instead of the matrices (nn/lora.cpp).
struct LoraConfig {
  int64_t rank = 0;  // r; 0: no factors
  double alpha = 16;
  std::vector<std::string> on;  // patterns of the matrices' names

  bool operator==(const LoraConfig&) const = default;
};

struct Config {
  std::string family = "openlm";  // the family of the weights: "llama", "openlm", "llama2.c"; see formats/families.h
  int64_t vocab = 0;       // O
  int64_t width = 0;       // C
  int64_t layers = 0;      // L
  int64_t heads = 0;       // H
  int64_t kv_heads = 0;    // G
  int64_t head_dim = 0;    // the size of q and k as in_proj computes them
  int64_t key_dim = 0;     // K, the size of q and k when they are compared: after the feature map in a SUPRA layer, otherwise head_dim
  int64_t value_dim = 0;   // V
  int64_t mlp_width = 0;   // F
  int64_t context = 0;     // the length of a training sequence; a softmax model is not trained on positions beyond it
  std::vector<int64_t> windows;  // per layer: how many of the last tokens its softmax sees, 0 for all; empty: all in every layer
  int64_t sinks = 0;             // of window layers: how many of the first tokens their softmax always sees
  std::vector<int64_t> far_features;  // per layer: features of a window layer's state for older keys; 0: none; empty: none in any layer
  Dtype state_dtype = Dtype::f32;     // the type of keys and values that window layers keep on the CPU: f32 or f16
  MixerParts parts = MixerParts::all;  // never stored
  bool tied = false;       // the output matrix is the embedding
  bool post_embed_norm = false;
  bool learned_positions = false;  // position embeddings, one for each position of the context, are added to the token's: GPT-2
  bool qkv_bias = false, out_bias = false, mlp_bias = false;
  Residual residual = Residual::pre_norm;
  QkNorm qk_norm = QkNorm::none;
  MlpKind mlp = MlpKind::swiglu;
  Gelu gelu = Gelu::erf;
  NormConfig norm;
  Rope rope;
  std::vector<Turn> turns;         // one per layer; empty: all use the rope
  double local_rope_base = 10000;
  double embedding_scale = 1;      // embeddings are multiplied by it
  double residual_scale = 1;       // the output of each branch is multiplied by it before it is added
  double score_scale = 0;          // of softmax attention: factor on q k; 0: 1 / sqrt(head_dim)
  double score_cap = 0;            // of softmax attention: a score s becomes cap tanh(s / cap); 0: off
  double qkv_clip = 0;             // q, k and v are clipped to +-this value after in_proj; 0: off
  double logit_scale = 1;          // logits are multiplied by it
  double logit_cap = 0;            // then a logit x becomes cap tanh(x / cap); 0: off
  DecayConfig decay;
  bool feature_map = true;              // of a SUPRA or delta layer; without it q and k are compared as in_proj computes them
  bool per_head_feature_map = false;    // block-diagonal: the feature map does not mix heads
  bool short_convolution = false;       // q, k and v of a delta layer are first mixed with those of the three previous steps
  bool rotates = true;                  // a SUPRA or delta layer rotates q and k by their positions
  bool rope_before_map = false;         // q and k are rotated before the feature map, so that the features stay positive
  OutputNorm output_norm = OutputNorm::group;
  bool output_gate = false;             // the normed outputs are multiplied by sigmoid(W x + b)
  std::vector<MixerKind> mixers;        // per layer
  LoraConfig lora;                      // only during training; published models have none
};

constexpr int64_t kMostLayers = 1 << 16;

// The rope of a layer: the config's, the local one, or none.
Rope rope_of(const Config& config, int64_t layer);

// Throws Error if the numbers contradict each other or are impossible; `where` is the file they came from.
void check_config(const Config& config, const std::string& where);

bool has_mixer(const Config& config, MixerKind kind);  // in at least one layer
// True for SUPRA and delta layers: their memory is one state per head.
inline bool has_head_state(MixerKind kind) { return kind == MixerKind::supra || kind == MixerKind::delta; }
bool has_head_states(const Config& config);  // in at least one layer

// Some layers are window layers, and none has a state per head instead of softmax: the student already attends as its teacher does.
bool is_window_student(const Config& config);

// Throws Error naming the layer if one is not recurrent: the memory of a host program must not grow with the text.
void check_recurrent(const Config& config, const std::string& where);

}  // namespace supra
