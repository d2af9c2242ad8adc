#pragma once
#include <optional>

#include "supra/model.h"

namespace supra {

// Converts a softmax transformer into a recurrent model, without training: only the softmax of the chosen layers is replaced.

// A number for some layers, or for all if none is named.
struct LayerSetting {
  int64_t value = 0;
  std::vector<int64_t> layers = {};
};

struct LinearizeOptions {
  MixerKind mixer = MixerKind::supra;  // or delta or window
  std::vector<int64_t> keep_softmax;   // layers that are not changed
  uint64_t seed = 0;

  // ---- for window layers; if a layer has several settings, the last one is used
  std::vector<LayerSetting> windows = {{256}}, far_features;
  int64_t sinks = 4;
  Dtype state_dtype = Dtype::f16;

  // ---- for SUPRA and delta layers
  // standard: uniform in +-1/sqrt(fan_in), as the paper; identity: relu(q), then relu(-q) if there are more, then standard rows
  enum class Init { standard, identity };
  Init init = Init::standard;
  DecayConfig decay;                  // source: fixed is SUPRA, gated the gated mixer
  enum class FeatureMap { full, per_head, none };  // one map for all heads, or one per head
  std::optional<FeatureMap> feature_map;  // none: full; of delta layers only if it makes wider keys
  bool short_convolution = false;     // of delta layers
  bool rotates = true;                // q and k are rotated by their positions
  int64_t key_dim = 0;                // features of a head; 0: the size of q. More features make a larger state
  bool rope_before_map = false, output_gate = false;
  bool qk_norm = false;               // of q and k, over all heads together
  std::optional<OutputNorm> output_norm;  // none: the paper's for SUPRA layers, no norm for delta layers
};

struct Linearized {
  Model model;
  std::vector<std::string> copied, fresh;  // parameter names
  int64_t copied_parameters = 0, fresh_parameters = 0;
  std::vector<std::string> notes;  // settings of the teacher that mean something else in a recurrent layer
};

// Throws Error if a named layer does not exist, or if keep_softmax names all layers.
Linearized linearize(const Model& teacher, const LinearizeOptions& options);

}  // namespace supra
