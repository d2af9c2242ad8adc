#pragma once
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "supra/formats/file.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

// Weights by name, from any kind of file: the interface between formats and models.

namespace supra {

struct TensorInfo {
  std::string name;
  Shape shape;
  Dtype dtype = Dtype::f32;  // what get() gives
  std::string stored;        // the type in the file if it is another one: "q80", "F8_E4M3"
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

class WeightReader {
 public:
  explicit WeightReader(Path path) : path_(std::move(path)) {}
  virtual ~WeightReader() = default;

  const Path& path() const { return path_; }  // the file or folder; begins every error
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(const std::string& name) const;  // null if there is none

  // In its own dtype, mapped from the file if possible; read-only by convention. Throws Error if the name is missing or its
  // type cannot be read.
  Tensor get(const std::string& name) const;
  // The same, converted to `dtype`. Throws Error with both shapes if the file has another.
  Tensor get(const std::string& name, const Shape& shape, Dtype dtype) const;

 protected:
  // Readers add every tensor when they open the file; the index is the order of the calls. Throws Error for a repeated name.
  size_t add(TensorInfo info);
  virtual Tensor read(size_t index) const = 0;

 private:
  Path path_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

// A tensor of a mapped file: the file's own bytes, which it keeps mapped, if they are aligned, else a copy.
Tensor map_tensor(const MappedFile& file, const uint8_t* data, const Shape& shape, Dtype dtype);

// Calls f with the elements converted to `dtype`, piece by piece, so that there is no second copy in memory.
void each_piece(const Tensor& tensor, Dtype dtype, FunctionRef<void(std::string_view bytes)> f);

// Throws Error, with tensor, file and the first place, if a floating tensor holds a NaN or an infinity.
void check_finite(const Tensor& tensor, const std::string& name, const Path& path);

}  // namespace supra
