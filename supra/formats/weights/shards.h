#pragma once
#include <memory>

#include "supra/formats/weights/weights.h"

namespace supra {

// A model in several files, safetensors or PyTorch's, in the folder of their index:
//   {"metadata": {"total_size": bytes}, "weight_map": {"tensor name": "file", ...}}
// Throws Error for a shard outside the folder, or one that lacks a tensor of the index.
std::unique_ptr<WeightReader> open_shards(const Path& index);

}  // namespace supra
