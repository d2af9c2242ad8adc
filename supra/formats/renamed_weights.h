#pragma once
#include <string>
#include <vector>

#include "supra/formats/families.h"
#include "supra/formats/parameters.h"
#include "supra/formats/weights/weights.h"

namespace supra {

// The tensors of `file` under canonical names and in the decoder's layout: stacked if the decoder has them in one matrix, with
// rows in its order. Tensors already stored in the decoder's layout stay mapped, even when one parameter is several tensors
// stored back to back; the others are copied in their own dtype. `unused` gets the names of tensors that no parameter needs.
// Throws Error that lists missing tensors, or names one of another shape.
std::unique_ptr<WeightReader> rename_weights(std::unique_ptr<WeightReader> file, const TensorNames& names, const Config& config,
                                             std::vector<std::string>& unused);

}  // namespace supra
