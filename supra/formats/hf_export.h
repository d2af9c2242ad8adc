#pragma once
#include "nn/config.h"
#include "supra/formats/json.h"
#include "supra/formats/weights.h"

namespace supra {

// A softmax model in the layout of Hugging Face's transformers, the reverse of hf_config.h and renamed_weights.h.

// The model_type that computes what the config says: that of the family it came from, or llama, mistral, qwen2, qwen3, olmo2,
// gpt_neox or gpt2 by its features. Throws Error naming the feature where none does, as for SUPRA layers.
std::string hf_model_type(const Config& config);

// A dtype as PyTorch calls it.
const char* torch_name(Dtype dtype);

// config.json; read_hf_config() gives the same shape again. Rotary divisors are written as "longrope", whose factors
// they are.
Json write_hf_config(const Config& config, Dtype dtype);

// The canonical tensors under the names of the family and as it stores them: taken apart, transposed, by head. Those
// that need no rearranging share memory.
NamedTensors hf_weights(const Config& config, const NamedTensors& canonical);

}  // namespace supra
