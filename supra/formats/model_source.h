#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/config.h"
#include "supra/formats/families.h"
#include "supra/formats/weights/weights.h"

namespace supra {

// A stored model of any format: its config, and its weights under canonical names (parameters.h).
struct ModelSource {
  Config config;
  std::unique_ptr<WeightReader> weights;  // everything that parameters_of(config) asks for, in its shape
  Path path;                              // of the weights
  std::string format;                     // "safetensors (llama)", "llama2.c v0", ...
  std::vector<std::string> notes;         // what was converted or ignored, and why that is right
  std::vector<std::string> unexpected;    // tensors of the file that no rule names
  std::vector<TensorInfo> stored;         // the tensors under the names of the file
};

// Opens
//   a folder with config.json (OpenLM's, mistral-supra's, of one of Hugging Face's families, or this project's own) and weights in
//   safetensors or PyTorch's format, whole or in shards with their index; of several epoch_N.pt the last
//   the file of such weights, with its config.json in the same folder
//   a GGUF, or a folder with one; a file of llama2.c; a packed model
// Throws Error if a weight is missing or has another shape than the config says. Does not look at the weights' bytes:
// check_finite() does.
ModelSource open_model(const Path& path);

// A source with the weights of `file`, which has the family's names for them.
ModelSource source_of(const Path& path, std::string kind, Config config, std::unique_ptr<WeightReader> file,
                      const TensorNames& names);

// A packed model in memory (packed_model.h).
ModelSource open_packed(const MappedFile& file);

}  // namespace supra
