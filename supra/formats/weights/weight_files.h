#pragma once
#include <memory>

#include "supra/formats/weights/weights.h"

namespace supra {

// The format of a file by its first bytes, or of an index of shards by its name: "safetensors", "PyTorch" or "GGUF". Throws
// Error for any other.
const char* weight_format(const Path& file);

// Opens a file of one of these formats, or a model in several files by its index.
std::unique_ptr<WeightReader> open_weights(const Path& file);

}  // namespace supra
