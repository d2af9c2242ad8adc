#pragma once
#include <string_view>

#include "nn/config.h"
#include "supra/formats/parse/json.h"

namespace supra {

// Any model as transformers loads it with code of ours, modeling_supra.py beside the weights: from_pretrained(OUT,
// trust_remote_code=True). The weights keep their canonical names, since the modules there bear them.

// The text of modeling_supra.py.
std::string_view modeling_supra();

// config.json: who reads it, and under "supra" all of the config in the words of config_json.h. open_model() reads that back,
// also from a folder that save_pretrained() wrote.
Json write_transformers_config(const Config& config, Dtype dtype);

}  // namespace supra
