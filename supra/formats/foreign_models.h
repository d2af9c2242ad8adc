#pragma once
#include "supra/formats/parse/json.h"
#include "supra/formats/model_source.h"

namespace supra {

// open_model()'s ways into transformers as other programs write them. None has a recurrent layer, so the library for
// hosts has none of this (supra/embed/format_stubs.cpp).

ModelSource open_gguf(const Path& path);
// Its tensors alone.
std::unique_ptr<WeightReader> open_gguf_file(const Path& path);
// `config` is the config.json beside the weights.
ModelSource open_hugging_face(const Path& weights, const Json& config);
ModelSource open_llama2c(const Path& path);

}  // namespace supra
