#pragma once
#include <initializer_list>

#include "tensor/parallel.h"

// Gradients of weights that all rows share: sums over rows.

namespace supra {

// sums[k] (C) += the sum over N rows of what f adds up. f(begin, end, partial) handles the rows [begin, end)
// and adds their share to partial (number of sums, C), zeros at first. Rows go in blocks of 64 and blocks are
// added in order, so the bits do not depend on the thread count. A sum that is nullptr is dropped.
void add_row_sums(std::initializer_list<float*> sums, int64_t N, int64_t C,
                  FunctionRef<void(int64_t begin, int64_t end, float* partial)> f);

}  // namespace supra
