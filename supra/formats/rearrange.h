#pragma once
#include <functional>

#include "tensor/tensor.h"

namespace supra {

// Copies rows of any dtype: row i of `to` = row from(i) of `x`.
void copy_rows(const Tensor& to, const Tensor& x, const std::function<int64_t(int64_t)>& from);

// x + number, in f32.
Tensor plus(const Tensor& x, float number);

// x (R,C) -> (C,R). Not for quantised dtypes.
Tensor transposed(const Tensor& x);

}  // namespace supra
