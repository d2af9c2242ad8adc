#pragma once
#include "supra/formats/model_source.h"
#include "supra/formats/parse/json.h"

namespace supra {

// open_model() for transformers that other programs wrote. They have no recurrent layers, so the library for hosts leaves
// these functions out (supra/embed/format_stubs.cpp).

ModelSource open_gguf(const Path& path);
// Only its tensors.
std::unique_ptr<WeightReader> open_gguf_file(const Path& path);
// `config`: the config.json in the folder of the weights.
ModelSource open_hugging_face(const Path& weights, const Json& config);
ModelSource open_llama2c(const Path& path);

}  // namespace supra
