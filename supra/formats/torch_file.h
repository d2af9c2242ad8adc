#pragma once
#include <memory>

#include "supra/formats/weights.h"

// What torch.save() of PyTorch 1.6 and later writes (.bin, .pt, .pth): a zip archive of stored records,
//   NAME/data.pkl   a pickle (pickle.h) whose tensors name a storage, an offset, sizes and strides in
//   elements NAME/data/KEY   the bytes of a storage NAME/byteorder  "little"; absent in older files

namespace supra {

// Maps the file. The tensors are those of the pickle's dict, or of the dict under state_dict,
// model_state_dict or model in it; names in dicts inside are joined with dots. Other values are passed over.
// Contiguous tensors are mapped, other views gathered by get(). Throws Error naming the file, the record or
// the tensor.
std::unique_ptr<WeightReader> open_torch_file(const Path& path);

}  // namespace supra
