#pragma once
#include <algorithm>

#include "tensor/tensor.h"

// What the ops share when they choose their code and cut their work.

namespace supra {

// Calls f(float()) for f32, the fast path, and f(double()) for f64, the reference; other dtypes, and tensors on
// a device that f has no code for, throw by name.
template <class F>
void by_dtype(const char* op, Dtype dtype, F f) {
  try {
    switch (dtype) {
      case Dtype::f32:
        return f(float());
      case Dtype::f64:
        return f(double());
      default:
        fail("%s: works on f32, %s was given (convert it with to())", op, name(dtype));
    }
  } catch (const WrongDevice& error) {
    fail("%s: %s", op, error.what());
  }
}

// For what may be left out: nullptr when the tensor is undefined.
template <class T>
T* data_or_null(const Tensor& t) {
  return t.defined() ? t.data<T>() : nullptr;
}

// All dimensions but the last are rows.
inline int64_t row_count(const Tensor& t) { return t.dim(-1) == 0 ? 0 : t.numel() / t.dim(-1); }

// The grain of a parallel_for over rows of C elements: less than this costs less than waking a thread.
inline int64_t row_grain(int64_t C) { return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, C)); }

}  // namespace supra
