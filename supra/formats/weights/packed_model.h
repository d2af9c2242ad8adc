#pragma once
#include <optional>

#include "nn/config.h"
#include "supra/formats/model_files.h"
#include "supra/formats/weights/weights.h"

// A packed model: a whole model in one file, or in one block of memory. It is a safetensors file with the metadata
// {"format": "supra packed"}. It has the canonical weights, each in its own dtype, and config.json and the tokenizer's files as
// U8 tensors named "file:config.json", ... The header and each tensor have a checksum (checksums.h), except in files of earlier
// versions. Opening a model does not check them.

namespace supra {

bool is_packed(const MappedFile& file);

// The files inside. Throws Error if the packed model is damaged.
class PackedFiles : public ModelFiles {
 public:
  explicit PackedFiles(const MappedFile& file);
  std::vector<std::string> names() const override;
  MappedFile open(const std::string& name) const override;

 private:
  MappedFile file_;
  std::unique_ptr<WeightReader> tensors_;
};

// Whether a tensor of a packed model is one of its files.
bool is_packed_file(const std::string& tensor);

using NamedBytes = std::vector<std::pair<std::string, std::string>>;

// Writes such a file. `files`: the tokenizer's. `weights`: as for save_model().
void write_packed(const Path& path, const Config& config, const NamedTensors& weights, const NamedBytes& files,
                  std::optional<Dtype> dtype);

}  // namespace supra
