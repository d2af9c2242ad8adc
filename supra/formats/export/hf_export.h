#pragma once
#include "nn/config.h"
#include "supra/formats/parse/json.h"
#include "supra/formats/weights/weights.h"

namespace supra {

// Writes a softmax model in the layout of Hugging Face's transformers: the reverse of hf_config.h and renamed_weights.h.

// The model_type that computes the same: the family it came from, or llama, mistral, qwen2, qwen3, olmo2, gpt_neox or gpt2 by
// the features of the config. Throws Error naming the feature if there is none, for example for SUPRA layers.
std::string hf_model_type(const Config& config);

// PyTorch's name of a dtype.
const char* torch_name(Dtype dtype);

// config.json, from which read_hf_config() restores the shape. Rotary divisors are written as factors of "longrope".
Json write_hf_config(const Config& config, Dtype dtype);

// The tensors with the names and the layout of the family: split, transposed, by head. A tensor that needs no change shares its
// memory.
NamedTensors hf_weights(const Config& config, const NamedTensors& canonical);

}  // namespace supra
