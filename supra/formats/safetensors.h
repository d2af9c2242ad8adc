#pragma once
#include <memory>
#include <optional>
#include <utility>

#include "supra/formats/weights.h"

// safetensors (github.com/huggingface/safetensors): 8 bytes of header length n, n bytes of JSON, the tensors'
// bytes.
//   { "__metadata__": {"key": "text", ...}, "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin,
//   end]}, ... }
// Offsets count from the end of the header; the tensors cover the rest of the file without holes or overlaps.

namespace supra {

using Metadata = std::vector<std::pair<std::string, std::string>>;

class Safetensors : public WeightReader {
 public:
  // Maps the file and checks all of its header: offsets, sizes, overlaps. Tensors of types that the project
  // has not (BOOL, F8_*, ...) are listed, and refused by get().
  explicit Safetensors(const Path& path);

  const Metadata& metadata() const { return metadata_; }

 protected:
  Tensor read(size_t index) const override;

 private:
  MappedFile file_;
  std::vector<const uint8_t*> data_;
  Metadata metadata_;
};

// A model cut into several files, by its index: {"weight_map": {"tensor name": "file in the same folder",
// ...}}.
class ShardedSafetensors : public WeightReader {
 public:
  explicit ShardedSafetensors(const Path& index);

 protected:
  Tensor read(size_t i) const override { return source_[i]->get(tensors()[i].name); }

 private:
  std::vector<std::unique_ptr<Safetensors>> shards_;
  std::vector<const Safetensors*> source_;
};

// Writes the tensors, each as `dtype` (every one as it is where there is none), without a second copy in
// memory. Larger elements come first, so that everything is aligned in a mapped file.
void write_safetensors(const Path& path, std::vector<NamedTensor> tensors,
                       const Metadata& metadata = {{"format", "pt"}}, std::optional<Dtype> dtype = {});

}  // namespace supra
