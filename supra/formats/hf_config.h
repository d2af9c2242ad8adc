#pragma once
#include "nn/config.h"
#include "supra/formats/json.h"

namespace supra {

// config.json of a Hugging Face Llama, or of a Mistral without a sliding window, as any release of
// transformers wrote it. Throws Error naming the feature for everything that changes the computation and is
// not supported: attention or MLP biases, sliding windows, rotary scalings other than "linear", quantised
// weights, other families.
Config read_hf_config(const Json& json);

}  // namespace supra
