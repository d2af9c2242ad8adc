#pragma once
#include <memory>
#include <vector>

#include "tensor/device.h"
#include "tensor/dtype.h"
#include "tensor/error.h"
#include "tensor/shape.h"

// Tensor: a handle to contiguous, row-major memory with a shape and a dtype. Copies share the memory; clone() does not.
// A tensor has no strides: kernels that work on columns of a wider matrix take the row stride as an argument.

namespace supra {

class Tensor {
 public:
  Tensor() = default;

  static Tensor empty(const Shape& shape, Dtype dtype = Dtype::f32, Device device = Device::cpu);
  static Tensor zeros(const Shape& shape, Dtype dtype = Dtype::f32, Device device = Device::cpu);
  static Tensor full(const Shape& shape, double value, Dtype dtype = Dtype::f32, Device device = Device::cpu);
  // Memory from elsewhere, for example a mapped file; `owner` keeps it alive. Such memory is read-only by convention.
  static Tensor wrap(void* memory, const Shape& shape, Dtype dtype, std::shared_ptr<void> owner);
  template <class T>
  static Tensor of(const std::vector<T>& values, Shape shape = {});  // copies; the shape defaults to (size)

  bool defined() const { return memory_ != nullptr; }
  const Shape& shape() const { return shape_; }
  int64_t rank() const { return static_cast<int64_t>(shape_.size()); }
  int64_t dim(int64_t i) const;  // negative i counts from the end
  int64_t numel() const { return supra::numel(shape_); }
  Dtype dtype() const { return dtype_; }
  Device device() const { return device_; }
  size_t bytes() const;

  bool unique() const { return owner_.use_count() == 1; }  // no other tensor shares the memory

  // The memory, for code that runs on device `on`; throws Error if it is on another device.
  void* raw(Device on = Device::cpu) const;
  template <class T>
  T* data(Device on = Device::cpu) const;  // throws Error if the dtype is not T
  double item() const;                     // the one element of a tensor of one element

  Tensor view(Shape shape) const;                      // same memory; one size may be -1; quantised rows stay whole
  Tensor rows(int64_t begin, int64_t end) const;       // same memory, [begin, end) of the first dimension
  Tensor clone() const;
  Tensor to(Dtype dtype) const;                        // itself if nothing changes
  Tensor to(Device device) const;                      // the same; a copy between devices
  void fill(double value) const;
  void copy_from(const Tensor& source) const;          // same number of elements; converts dtypes

 private:
  Tensor(std::shared_ptr<void> owner, void* memory, const Shape& shape, Dtype dtype, Device device)
      : owner_(std::move(owner)), memory_(memory), shape_(shape), dtype_(dtype), device_(device) {}
  Tensor copy_as(Dtype dtype, Device device) const;

  std::shared_ptr<void> owner_;
  void* memory_ = nullptr;
  Shape shape_;
  Dtype dtype_ = Dtype::f32;
  Device device_ = Device::cpu;
};

Tensor empty_like(const Tensor& t);
Tensor zeros_like(const Tensor& t);
// sum += term, both f32 or f64, or on the GPU both f32 or bf16.
void add_into(const Tensor& sum, const Tensor& term);

// Throws Error "op: what is (..), expected (..)" if the shapes differ.
void check_shape(const char* op, const char* what, const Shape& given, const Shape& expected);

template <class T>
T* Tensor::data(Device on) const {
  CHECK(dtype_ == dtype_of<T>(), "tensor %s holds %s, the operation needs %s (convert it with to())",
        to_string(shape_).c_str(), name(dtype_), name(dtype_of<T>()));
  return static_cast<T*>(raw(on));
}

template <class T>
Tensor Tensor::of(const std::vector<T>& values, Shape shape) {
  if (shape.empty()) shape = {static_cast<int64_t>(values.size())};
  Tensor t = empty(shape, dtype_of<T>());
  CHECK(t.numel() == static_cast<int64_t>(values.size()), "tensor of shape %s from %zu values", to_string(shape).c_str(),
        values.size());
  std::copy(values.begin(), values.end(), t.data<T>());
  return t;
}

}  // namespace supra
