#pragma once
#include "supra/model.h"

namespace supra {

// Turning a softmax transformer into a SUPRA model, without training: every weight is kept, attention's softmax is
// replaced layer by layer, and the feature maps are new.

struct LinearizeOptions {
  // standard: uniform in +-1/sqrt(fan_in), as torch.nn.Linear and the paper; identity: relu(q) at first, and of more
  // features relu(-q), then standard rows.
  enum class Init { standard, identity };
  Init init = Init::standard;
  DecayConfig decay;                  // source: fixed is SUPRA, gated the gated mixer
  bool per_head = false;              // a feature map per head, which does not mix them
  int64_t key_dim = 0;                // features of a head; 0: as many as q has. More make a larger state
  bool rope_before_map = false, output_gate = false;
  bool qk_norm = false;               // of q and k, over all heads together
  OutputNorm output_norm = OutputNorm::group;
  std::vector<int64_t> keep_softmax;  // layers left as they are
  uint64_t seed = 0;
};

struct Linearized {
  Model model;
  std::vector<std::string> copied, fresh;  // parameter names
  int64_t copied_parameters = 0, fresh_parameters = 0;
  std::vector<std::string> notes;  // what of the teacher means something else in a recurrent layer
};

// Throws Error when a layer named in keep_softmax does not exist, or when all are.
Linearized linearize(const Model& teacher, const LinearizeOptions& options);

}  // namespace supra
