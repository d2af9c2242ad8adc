#include "tensor/tensor.h"

#include <cstring>

namespace supra {

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  for (int64_t size : shape) {
    CHECK(size >= 0 && !__builtin_mul_overflow(n, size, &n), "shape %s is negative or too large", to_string(shape).c_str());
  }
  return n;
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

Tensor Tensor::empty(Shape shape, Dtype dtype, Device device) {
  const int64_t n = supra::numel(shape);
  CHECK(n < (int64_t{1} << 56), "tensor of shape %s is too large", to_string(shape).c_str());
  Tensor t;
  t.owner_ = allocate(static_cast<size_t>(n) * size_of(dtype), device);
  t.memory_ = t.owner_.get();
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  return t;
}

Tensor Tensor::zeros(Shape shape, Dtype dtype, Device device) {
  Tensor t = empty(std::move(shape), dtype, device);
  memset(t.memory_, 0, t.bytes());
  return t;
}

Tensor Tensor::full(Shape shape, double value, Dtype dtype, Device device) {
  Tensor t = empty(std::move(shape), dtype, device);
  t.fill(value);
  return t;
}

Tensor Tensor::wrap(void* memory, Shape shape, Dtype dtype, std::shared_ptr<void> owner) {
  Tensor t;
  t.owner_ = std::move(owner);
  t.memory_ = memory;
  t.shape_ = std::move(shape);
  t.dtype_ = dtype;
  return t;
}

int64_t Tensor::dim(int64_t i) const {
  const int64_t at = i < 0 ? i + rank() : i;
  CHECK(at >= 0 && at < rank(), "dimension %ld of a tensor of shape %s", static_cast<long>(i), to_string(shape_).c_str());
  return shape_[at];
}

double Tensor::item() const {
  CHECK(defined() && numel() == 1, "item() of a tensor of shape %s, one element is needed", to_string(shape_).c_str());
  double value;
  convert(&value, Dtype::f64, memory_, dtype_, 1);
  return value;
}

Tensor Tensor::view(Shape shape) const {
  int64_t known = 1, open = -1;
  for (size_t i = 0; i < shape.size(); i++) {
    if (shape[i] == -1) open = static_cast<int64_t>(i);
    else known *= shape[i];
  }
  if (open >= 0 && known > 0) shape[open] = numel() / known;
  CHECK(supra::numel(shape) == numel(), "view: %s has %ld elements, %s has not", to_string(shape_).c_str(),
        static_cast<long>(numel()), to_string(shape).c_str());
  Tensor t = *this;
  t.shape_ = std::move(shape);
  return t;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  CHECK(rank() > 0 && 0 <= begin && begin <= end && end <= shape_[0], "rows [%ld, %ld) of a tensor of shape %s",
        static_cast<long>(begin), static_cast<long>(end), to_string(shape_).c_str());
  Tensor t = *this;
  t.shape_[0] = end - begin;
  const int64_t row = shape_[0] ? numel() / shape_[0] : 0;
  t.memory_ = static_cast<char*>(memory_) + begin * row * static_cast<int64_t>(size_of(dtype_));
  return t;
}

Tensor Tensor::clone() const {
  Tensor t = empty(shape_, dtype_);
  memcpy(t.memory_, memory_, bytes());
  return t;
}

Tensor Tensor::to(Dtype dtype) const {
  if (dtype == dtype_) return *this;
  Tensor t = empty(shape_, dtype);
  convert(t.memory_, dtype, memory_, dtype_, numel());
  return t;
}

void Tensor::fill(double value) const {
  const int64_t n = numel();
  char* out = static_cast<char*>(memory_);
  const size_t size = size_of(dtype_);
  char element[8];
  convert(element, dtype_, &value, Dtype::f64, 1);
  for (int64_t i = 0; i < n; i++) memcpy(out + i * static_cast<int64_t>(size), element, size);
}

void Tensor::copy_from(const Tensor& source) const {
  CHECK(numel() == source.numel(), "copy: %s from %s", to_string(shape_).c_str(), to_string(source.shape_).c_str());
  convert(memory_, dtype_, source.memory_, source.dtype_, numel());
}

Tensor empty_like(const Tensor& t) { return Tensor::empty(t.shape(), t.dtype(), t.device()); }
Tensor zeros_like(const Tensor& t) { return Tensor::zeros(t.shape(), t.dtype(), t.device()); }

void check_shape(const char* op, const char* what, const Shape& given, const Shape& expected) {
  CHECK(given == expected, "%s: %s is %s, expected %s", op, what, to_string(given).c_str(), to_string(expected).c_str());
}

}  // namespace supra
