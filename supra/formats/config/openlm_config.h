#pragma once
#include "nn/config.h"
#include "supra/formats/parse/json.h"

// config.json of OpenLM and linear_open_lm, in both spellings: that of a training run (hidden_dim, model_norm, qk_norm, ...)
// and that of the published TRI-ML/mistral-supra (dim, norm_type, apply_qk_norm, ...). Fields that OpenLM has no key for are
// under the additional key "supra", with the names of config_json.h.

namespace supra {

// Throws Error with key and line for anything missing, contradictory or not supported.
Config read_openlm_config(const Json& json);

// The fields that OpenLM has no key for, such as {"decay.source": "gated"}. Leaves out the family, which changes no result.
Json beyond_openlm(const Config& config);

// In the spelling of a training run; read_openlm_config() restores the config. Throws Error for a norm that OpenLM lacks.
Json write_openlm_config(const Config& config);

}  // namespace supra
