#pragma once
#include <string>
#include <vector>

#include "supra/formats/families.h"
#include "supra/formats/parameters.h"
#include "supra/formats/weights/weights.h"

namespace supra {

// The tensors of `file` under canonical names, stacked where the family keeps apart what the decoder has in one
// matrix, their rows in the decoder's order. Tensors already stored in the decoder's layout stay mapped, even when one
// parameter is several tensors stored back to back; the rest is copied in its own dtype. `unused` takes the names of the
// tensors that no parameter asks for. Throws Error that lists the missing tensors, or names one of another shape.
std::unique_ptr<WeightReader> rename_weights(std::unique_ptr<WeightReader> file, const Family& family,
                                             const Config& config, std::vector<std::string>& unused);

}  // namespace supra
