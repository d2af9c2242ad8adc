#pragma once
#include <optional>

#include "nn/config.h"
#include "supra/formats/model_files.h"
#include "supra/formats/weights/weights.h"

// A packed model: all of a model in one file, or in one block of memory. It is a safetensors file of the metadata
// {"format": "supra packed"}: canonical weights, each in its own dtype, and config.json and the tokenizer's files as
// U8 tensors called "file:config.json", ... Each tensor has a checksum, and so has the header (checksums.h); files of
// earlier versions have none. Opening a model looks at none of them.

namespace supra {

bool is_packed(const MappedFile& file);

// The files inside. Throws Error for a file that is damaged.
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

// Writes such a file; `files`: the tokenizer's. `weights` as save_model() takes them.
void write_packed(const Path& path, const Config& config, const NamedTensors& weights,
                  const NamedBytes& files, std::optional<Dtype> dtype);

}  // namespace supra
