#include "supra/formats/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace supra {

static_assert(std::endian::native == std::endian::little,
              "all weight files are little-endian and mapped as they are");

const TensorInfo* WeightReader::find(const std::string& name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

Tensor WeightReader::get(const std::string& name) const {
  const TensorInfo* info = find(name);
  CHECK(info, "%s: tensor %s is missing (the file has %zu others; is it another kind of model?)",
        path_.c_str(), name.c_str(), tensors_.size());
  return read(static_cast<size_t>(info - tensors_.data()));
}

Tensor WeightReader::get(const std::string& name, const Shape& shape, Dtype dtype) const {
  const TensorInfo* info = find(name);
  CHECK(!info || info->shape == shape, "%s: tensor %s is %s, the model needs %s", path_.c_str(), name.c_str(),
        to_string(info->shape).c_str(), to_string(shape).c_str());
  return get(name).to(dtype);
}

size_t WeightReader::add(TensorInfo info) {
  const bool fresh = index_.emplace(info.name, tensors_.size()).second;
  CHECK(fresh, "%s: tensor %s stands twice", path_.c_str(), info.name.c_str());
  tensors_.push_back(std::move(info));
  return tensors_.size() - 1;
}

void check_finite(const Tensor& tensor, const std::string& name, const Path& path) {
  if (!is_floating(tensor.dtype())) return;
  constexpr int64_t kChunk = 4096;
  double values[kChunk];
  const char* bytes = static_cast<const char*>(tensor.raw());
  const int64_t n = tensor.numel(), size = static_cast<int64_t>(size_of(tensor.dtype()));
  for (int64_t begin = 0; begin < n; begin += kChunk) {
    const int64_t count = std::min(kChunk, n - begin);
    convert(values, Dtype::f64, bytes + begin * size, tensor.dtype(), count);
    // x - x is 0 for a finite x and NaN for the others, and so is the sum
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += values[i] - values[i];
    if (sum == 0) continue;
    const int64_t bad =
        std::find_if(values, values + count, [](double x) { return !std::isfinite(x); }) - values;
    fail(
        "%s: tensor %s holds %f at element %ld of %s; weights must be finite (the file is damaged, or the "
        "run that "
        "wrote it had diverged)",
        path.c_str(), name.c_str(), values[bad], static_cast<long>(begin + bad),
        to_string(tensor.shape()).c_str());
  }
}

}  // namespace supra
