#pragma once
#include <string>
#include <vector>

#include "nn/config.h"
#include "supra/formats/json.h"

namespace supra {

// config.json of a Hugging Face Llama, Mistral, Qwen2, Qwen3, OLMo2, GPT-NeoX or GPT-2, as any release of transformers
// wrote it. `notes` takes what was left aside and why that is right. Throws Error naming the feature for everything
// that changes the computation and is not supported.
Config read_hf_config(const Json& json, std::vector<std::string>& notes);

}  // namespace supra
