#pragma once
#include <memory>
#include <optional>
#include <variant>

#include "supra/formats/weights/weights.h"

// Files of torch.save() from PyTorch 1.6 on (.bin, .pt, .pth): a zip archive of stored records,
//   NAME/data.pkl   a pickle (pickle.h) with the storage of each tensor, and offset, sizes and strides in elements
//   NAME/data/KEY   the bytes of a storage
//   NAME/byteorder  "little"; absent in older files

namespace supra {

// Maps the file. The tensors are those of the pickle's dict, or of the dict under state_dict, model_state_dict or model in it.
// Names in nested dicts are joined with dots. Other values are ignored. get() maps contiguous tensors and copies other views.
std::unique_ptr<WeightReader> open_torch_file(const Path& path);

// Values of a checkpoint besides the tensors, for example "epoch" and 0.
using TorchExtra = std::vector<std::pair<std::string, std::variant<int64_t, std::string>>>;

// Writes a file that torch.load(weights_only=True) reads: a dict of the tensors, or if there is an `extra`, a dict of it and of
// the tensors under state_dict. Tensors are converted to `dtype` if it is given, and begin on cache lines.
void write_torch_file(const Path& path, const NamedTensors& tensors, const TorchExtra& extra = {},
                      std::optional<Dtype> dtype = {});

// The pickle of such a file; tensor i is in the record data/i. Throws Error for a dtype that PyTorch lacks.
std::string torch_pickle(const std::vector<TensorInfo>& tensors, const TorchExtra& extra);

}  // namespace supra
