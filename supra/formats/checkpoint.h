#pragma once
#include <optional>

#include "nn/config.h"
#include "supra/formats/weights/weights.h"

namespace supra {

// Writes a model into an existing directory, with OpenLM's names and layout, so that OpenLM can read it: config.json
// (openlm_config.h) and model.safetensors. `weights`: all canonical tensors in any order, stored as `dtype` or in their own.
// Throws Error for a tensor that is missing, unknown or of another shape.
void save_model(const Path& directory, const Config& config, const NamedTensors& weights, std::optional<Dtype> dtype = Dtype::f32);

// Throws Error, beginning with `where`, unless the weights are exactly the tensors of the config, in their shapes.
void check_complete(const Path& where, const Config& config, const NamedTensors& weights);

}  // namespace supra
