#pragma once
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tensor/file.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"

// Weights by name, whatever file holds them: the one interface between formats and models.

namespace supra {

struct TensorInfo {
  std::string name;
  Shape shape;
  Dtype dtype = Dtype::f32;  // what get() gives
  std::string stored;        // the type in the file where it is another one: "q80", "F8_E4M3"
};

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;

class WeightReader {
 public:
  explicit WeightReader(Path path) : path_(std::move(path)) {}
  virtual ~WeightReader() = default;

  const Path& path() const { return path_; }  // the file or folder; begins every error
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find(const std::string& name) const;  // nullptr where there is none

  // In its own dtype, mapped from the file where that is possible; read-only by convention. Throws Error for
  // a name that is missing, or stored in a type that cannot be read.
  Tensor get(const std::string& name) const;
  // The same, converted to `dtype`. Throws Error with both shapes where the file's is another.
  Tensor get(const std::string& name, const Shape& shape, Dtype dtype) const;

 protected:
  // Readers add every tensor when they open the file; the index is the order of the calls. Throws Error for a
  // name that stands twice.
  size_t add(TensorInfo info);
  virtual Tensor read(size_t index) const = 0;

 private:
  Path path_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string, size_t> index_;
};

// A tensor of a mapped file, which it keeps mapped: the file's own bytes where they are aligned, else a copy.
Tensor map_tensor(const MappedFile& file, const uint8_t* data, const Shape& shape, Dtype dtype);

// Calls f with the elements as `dtype`, a piece at a time, so that nothing is in memory twice.
void each_piece(const Tensor& tensor, Dtype dtype, FunctionRef<void(std::string_view bytes)> f);

// Throws Error when a floating tensor holds a NaN or an infinity: names the tensor, the file and the first
// place.
void check_finite(const Tensor& tensor, const std::string& name, const Path& path);

}  // namespace supra
