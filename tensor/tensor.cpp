#include "tensor/tensor.h"

#include <cstring>

#include "tensor/cuda.h"
#include "tensor/parallel.h"
#include "tensor/quantized.h"

namespace supra {

static size_t bytes_of(const Shape& shape, Dtype dtype) {
  const int64_t n = numel(shape), row = shape.empty() ? 1 : shape.back();
  return n == 0 ? 0 : static_cast<size_t>(n / row) * row_bytes(dtype, row);
}

size_t Tensor::bytes() const { return bytes_of(shape_, dtype_); }

Tensor Tensor::empty(const Shape& shape, Dtype dtype, Device device) {
  CHECK(supra::numel(shape) < (int64_t{1} << 56), "tensor of shape %s is too large", to_string(shape).c_str());
  std::shared_ptr<void> memory = allocate(bytes_of(shape, dtype), device);
  void* const first = memory.get();
  return Tensor(std::move(memory), first, shape, dtype, device);
}

Tensor Tensor::zeros(const Shape& shape, Dtype dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  fill_bytes(t.memory_, device, 0, t.bytes());
  return t;
}

Tensor Tensor::full(const Shape& shape, double value, Dtype dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.fill(value);
  return t;
}

Tensor Tensor::wrap(void* memory, const Shape& shape, Dtype dtype, std::shared_ptr<void> owner) {
  return Tensor(std::move(owner), memory, shape, dtype, Device::cpu);
}

int64_t Tensor::dim(int64_t i) const {
  const int64_t at = i < 0 ? i + rank() : i;
  CHECK(at >= 0 && at < rank(), "dimension %ld of a tensor of shape %s", static_cast<long>(i), to_string(shape_).c_str());
  return shape_[at];
}

void* Tensor::raw(Device on) const {
  if (on != device_) {
    throw WrongDevice(format("a tensor of shape %s lies on the device %s, code for %s was to use it (move it with to())",
                             to_string(shape_).c_str(), name(device_), name(on)));
  }
  return memory_;
}

double Tensor::item() const {
  CHECK(defined() && numel() == 1, "item() of a tensor of shape %s: exactly one element is needed", to_string(shape_).c_str());
  double value;
  convert(&value, Dtype::f64, to(Device::cpu).memory_, dtype_, 1);
  return value;
}

Tensor Tensor::view(Shape shape) const {
  int64_t known = 1, open = -1;
  for (size_t i = 0; i < shape.size(); i++) {
    if (shape[i] == -1) open = static_cast<int64_t>(i);
    else known *= shape[i];
  }
  if (open >= 0 && known > 0) shape[open] = numel() / known;
  CHECK(supra::numel(shape) == numel(), "view: %s has %ld elements, %s has another number", to_string(shape_).c_str(),
        static_cast<long>(numel()), to_string(shape).c_str());
  CHECK(!is_quantized(dtype_) || (!shape.empty() && shape.back() == dim(-1)), "view: the rows of a %s tensor of shape %s stay whole",
        name(dtype_), to_string(shape_).c_str());
  Tensor t = *this;
  t.shape_ = shape;
  return t;
}

Tensor Tensor::rows(int64_t begin, int64_t end) const {
  CHECK(rank() > (is_quantized(dtype_) ? 1 : 0) && 0 <= begin && begin <= end && end <= shape_[0], "rows [%ld, %ld) of a tensor of shape %s",
        static_cast<long>(begin), static_cast<long>(end), to_string(shape_).c_str());
  Tensor t = *this;
  t.shape_[0] = end - begin;
  const int64_t row = shape_[0] ? static_cast<int64_t>(bytes()) / shape_[0] : 0;
  t.memory_ = static_cast<char*>(memory_) + begin * row;
  return t;
}

Tensor Tensor::copy_as(Dtype dtype, Device device) const {
  Tensor t = empty(shape_, dtype, device);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::clone() const { return copy_as(dtype_, device_); }
Tensor Tensor::to(Dtype dtype) const { return dtype == dtype_ ? *this : copy_as(dtype, device_); }
Tensor Tensor::to(Device device) const { return device == device_ ? *this : copy_as(dtype_, device); }

void Tensor::fill(double value) const {
  if (value == 0 && !is_quantized(dtype_)) return fill_bytes(memory_, device_, 0, bytes());
  const int64_t n = numel();
  if (device_ == Device::cuda) return cuda::fill(memory_, dtype_, value, n);
  char* out = static_cast<char*>(memory_);
  const size_t size = size_of(dtype_);
  char element[8];
  convert(element, dtype_, &value, Dtype::f64, 1);
  for (int64_t i = 0; i < n; i++) memcpy(out + i * static_cast<int64_t>(size), element, size);
}

void Tensor::copy_from(const Tensor& source) const {
  CHECK(numel() == source.numel(), "copy: %s from %s", to_string(shape_).c_str(), to_string(source.shape_).c_str());
  if (numel() == 0) return;
  if (device_ != source.device_ || device_ == Device::cuda) {
    if (dtype_ == source.dtype_) return copy_bytes(memory_, device_, source.memory_, source.device_, bytes());
    // the CPU converts if it is one of the two: it knows all dtypes
    if (device_ == Device::cpu) return copy_from(source.to(Device::cpu));
    if (source.device_ == Device::cpu) return copy_from(source.to(dtype_));
    const int64_t C = source.shape_.empty() ? 1 : source.dim(-1);
    return cuda::convert(memory_, dtype_, source.memory_, source.dtype_, numel() / C, C);
  }
  if (!is_quantized(dtype_) && !is_quantized(source.dtype_)) {
    return convert(memory_, dtype_, source.memory_, source.dtype_, numel());
  }
  const int64_t C = dim(-1), to = static_cast<int64_t>(row_bytes(dtype_, C));
  CHECK(C == source.dim(-1), "copy: rows of %s from rows of %s", to_string(shape_).c_str(), to_string(source.shape_).c_str());
  const int64_t from = static_cast<int64_t>(row_bytes(source.dtype_, C));
  parallel_for(numel() / C, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      convert(static_cast<char*>(memory_) + i * to, dtype_, static_cast<const char*>(source.memory_) + i * from, source.dtype_, C);
    }
  });
}

Tensor empty_like(const Tensor& t) { return Tensor::empty(t.shape(), t.dtype(), t.device()); }
Tensor zeros_like(const Tensor& t) { return Tensor::zeros(t.shape(), t.dtype(), t.device()); }

void add_into(const Tensor& sum, const Tensor& term) {
  const int64_t n = sum.numel();
  if (sum.device() == Device::cuda) {
    CHECK(term.dtype() == sum.dtype(), "add_into: %s to be added to %s", name(term.dtype()), name(sum.dtype()));
    return cuda::add_into(sum.raw(Device::cuda), term.raw(Device::cuda), sum.dtype(), n);
  }
  const auto add = [&]<class T>(T) {
    T* a = sum.data<T>();
    const T* b = term.data<T>();
    parallel_for(n, 1 << 14, [=](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) a[i] += b[i];
    });
  };
  sum.dtype() == Dtype::f64 ? add(double()) : add(float());
}

void check_shape(const char* op, const char* what, const Shape& given, const Shape& expected) {
  CHECK(given == expected, "%s: %s is %s, expected %s", op, what, to_string(given).c_str(), to_string(expected).c_str());
}

}  // namespace supra
