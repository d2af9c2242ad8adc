#pragma once
#include <memory>
#include <optional>
#include <variant>

#include "supra/formats/weights/weights.h"

// What torch.save() of PyTorch 1.6 and later writes (.bin, .pt, .pth): a zip archive of stored records,
//   NAME/data.pkl   a pickle (pickle.h) whose tensors name a storage, an offset, sizes and strides in
//   elements NAME/data/KEY   the bytes of a storage NAME/byteorder  "little"; absent in older files

namespace supra {

// Maps the file. The tensors are those of the pickle's dict, or of the dict under state_dict,
// model_state_dict or model in it; names in dicts inside are joined with dots. Other values are passed over.
// Contiguous tensors are mapped, other views gathered by get(). Throws Error naming the file, the record or
// the tensor.
std::unique_ptr<WeightReader> open_torch_file(const Path& path);

// What a checkpoint holds beside the tensors: "epoch" and 0, say.
using TorchExtra = std::vector<std::pair<std::string, std::variant<int64_t, std::string>>>;

// Writes a file that torch.load(weights_only=True) reads: a dict of the tensors, or where there is an `extra`
// a dict of that and of the tensors under state_dict. They are converted to `dtype` where there is one, one
// after another, and begin on cache lines.
void write_torch_file(const Path& path, const NamedTensors& tensors, const TorchExtra& extra = {},
                      std::optional<Dtype> dtype = {});

// The pickle of such a file; tensor i lies in the record data/i. Throws Error for a dtype that PyTorch has
// not.
std::string torch_pickle(const std::vector<TensorInfo>& tensors, const TorchExtra& extra);

}  // namespace supra
