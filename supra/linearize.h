#pragma once
#include <optional>

#include "supra/model.h"

namespace supra {

// Turning a softmax transformer into a recurrent model, without training: every weight is kept, and attention's softmax is
// replaced layer by layer. A SUPRA layer has new feature maps; a window layer has none unless it has far features.

// A number for some layers, or for all where none is named.
struct LayerSetting {
  int64_t value = 0;
  std::vector<int64_t> layers = {};
};

struct LinearizeOptions {
  MixerKind mixer = MixerKind::supra;  // or delta or window
  std::vector<int64_t> keep_softmax;   // layers left as they are
  uint64_t seed = 0;

  // ---- of window layers; of several settings of a layer the last counts
  std::vector<LayerSetting> windows = {{256}}, far_features;
  int64_t sinks = 4;
  Dtype state_dtype = Dtype::f16;

  // ---- of SUPRA and delta layers. The latter have no norm of their outputs unless it is asked for, and no feature map unless that is
  // or makes wider keys.
  // standard: uniform in +-1/sqrt(fan_in), as torch.nn.Linear and the paper; identity: relu(q) at first, and of more
  // features relu(-q), then standard rows.
  enum class Init { standard, identity };
  Init init = Init::standard;
  DecayConfig decay;                  // source: fixed is SUPRA, gated the gated mixer
  enum class FeatureMap { full, per_head, none };  // of all heads together, of each by itself
  std::optional<FeatureMap> feature_map;
  bool short_convolution = false;     // of delta layers
  bool rotates = true;                // q and k are turned by their positions
  int64_t key_dim = 0;                // features of a head; 0: as many as q has. More make a larger state
  bool rope_before_map = false, output_gate = false;
  bool qk_norm = false;               // of q and k, over all heads together
  std::optional<OutputNorm> output_norm;  // of SUPRA layers the paper's
};

struct Linearized {
  Model model;
  std::vector<std::string> copied, fresh;  // parameter names
  int64_t copied_parameters = 0, fresh_parameters = 0;
  std::vector<std::string> notes;  // what of the teacher means something else in a recurrent layer
};

// Throws Error when a layer that is named does not exist, or when keep_softmax names all.
Linearized linearize(const Model& teacher, const LinearizeOptions& options);

}  // namespace supra
