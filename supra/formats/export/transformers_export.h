#pragma once
#include <string_view>

#include "nn/config.h"
#include "supra/formats/parse/json.h"

namespace supra {

// Writes any model for transformers, which runs it with modeling_supra.py from the same folder: from_pretrained(OUT,
// trust_remote_code=True). The weights keep their canonical names, which the modules of that file have too.

// The text of modeling_supra.py.
std::string_view modeling_supra();

// config.json: transformers' own keys, and under "supra" all fields of the config (config_json.h). open_model() reads it back,
// also after save_pretrained().
Json write_transformers_config(const Config& config, Dtype dtype);

}  // namespace supra
