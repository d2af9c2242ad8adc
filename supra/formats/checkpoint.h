#pragma once
#include <optional>

#include "nn/config.h"
#include "supra/formats/weights/weights.h"

namespace supra {

// Writes a model into a directory that exists: config.json (openlm_config.h) and model.safetensors, under
// OpenLM's names and in its layout, so that OpenLM goes on with it; open_model() gives the same config and
// weights again. `weights` are canonical and all of them, in any order; they are stored as `dtype`, or each
// in its own. Throws Error for one that is missing, unknown or of another shape.
void save_model(const Path& directory, const Config& config, const NamedTensors& weights,
                std::optional<Dtype> dtype = Dtype::f32);

// Throws Error, beginning with `where`, unless these are all of the tensors that the config asks for, in their shapes.
void check_complete(const Path& where, const Config& config, const NamedTensors& weights);

}  // namespace supra
