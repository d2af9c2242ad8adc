#pragma once
#include <memory>

#include "supra/formats/weights/weights.h"

namespace supra {

// A model cut into several files, safetensors or PyTorch's, which lie in the folder of their index:
//   {"metadata": {"total_size": bytes}, "weight_map": {"tensor name": "file", ...}}
// Throws Error for a shard outside of the folder, and for one that lacks a tensor it is said to hold.
std::unique_ptr<WeightReader> open_shards(const Path& index);

}  // namespace supra
