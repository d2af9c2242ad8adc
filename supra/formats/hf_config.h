#pragma once
#include <string>

#include "nn/config.h"
#include "supra/formats/json.h"

namespace supra {

// config.json of one of Hugging Face's families (the table in hf_config.cpp, GPT-NeoX and GPT-2), as any release of transformers
// wrote it. Throws Error naming the feature for everything that changes the computation and is not supported.
Config read_hf_config(const Json& json);

}  // namespace supra
