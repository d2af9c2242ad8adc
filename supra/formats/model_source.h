#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/config.h"
#include "supra/formats/families.h"
#include "supra/formats/weights/weights.h"

namespace supra {

// A model somebody stored, whoever it was: what it looks like, and its weights under canonical names
// (parameters.h).
struct ModelSource {
  Config config;
  std::unique_ptr<WeightReader> weights;  // everything that parameters_of(config) asks for, in its shape
  Path path;                              // of the weights
  std::string format;                     // "safetensors (llama)", "llama2.c v0", ...
  std::vector<std::string> notes;         // what was converted or left aside, and why that is right
  std::vector<std::string> unexpected;    // tensors of the file that no rule knows
  std::vector<TensorInfo> stored;         // the tensors under the names of the file
};

// Finds out what holds the model:
//   a folder with config.json (OpenLM's, mistral-supra's, that of a family of Hugging Face's, or our own in either layout) and
//   safetensors or PyTorch's files, whole or in shards with their index; the last epoch_N.pt of a training of OpenLM
//   such a file by its name, its config.json beside it
//   a GGUF, or a folder with one; a file of llama2.c; a packed model
// Throws Error for weights that are missing or of another shape than the config says. The weights' bytes are not looked
// at: check_finite() does that.
ModelSource open_model(const Path& path);

// Gives a source the weights of a file, under the names that a family has for them; needs its config.
void take_weights(ModelSource& source, std::unique_ptr<WeightReader> file, const Family& family);

// A packed model that is in memory (packed_model.h).
ModelSource open_packed(const MappedFile& file);

}  // namespace supra
