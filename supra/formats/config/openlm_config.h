#pragma once
#include "nn/config.h"
#include "supra/formats/parse/json.h"

// config.json as OpenLM and linear_open_lm write it, in both of their spellings: that of a training run
// (hidden_dim, model_norm, qk_norm, ...) and that of the published TRI-ML/mistral-supra (dim, norm_type,
// apply_qk_norm, ...). What OpenLM has no word for stands under a key of our own, "supra", in the words of
// config_json.h.

namespace supra {

// Throws Error naming key and line for what is missing, contradictory or not supported.
Config read_openlm_config(const Json& json);

// What OpenLM has no words for, in ours: {"decay.source": "gated"}. The family, which changes nothing it
// computes, is not among it.
Json beyond_openlm(const Config& config);

// The training spelling; read_openlm_config() gives the same config again. Throws Error for a norm that
// OpenLM has not.
Json write_openlm_config(const Config& config);

}  // namespace supra
