#pragma once
#include <functional>

#include "tensor/tensor.h"

namespace supra {

// Rows in another order, whatever their dtype: row i of `to` becomes row from(i) of `x`.
void copy_rows(const Tensor& to, const Tensor& x, const std::function<int64_t(int64_t)>& from);

// x (R,C) -> (C,R), in its own dtype, which is not quantised.
Tensor transposed(const Tensor& x);

}  // namespace supra
