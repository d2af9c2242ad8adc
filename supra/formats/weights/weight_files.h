#pragma once
#include <memory>

#include "supra/formats/weights/weights.h"

namespace supra {

// What a file is by its first bytes, or an index of shards by its name: "safetensors", "PyTorch" or "GGUF".
// Throws Error for anything else; PyTorch's format before zip is named.
const char* weight_format(const Path& file);

// The reader of a file of one of these formats, or of a model cut into several files by its index.
std::unique_ptr<WeightReader> open_weights(const Path& file);

}  // namespace supra
