#pragma once
#include <initializer_list>

#include "tensor/parallel.h"

// Gradients of weights that are shared by all rows: sums over rows.

namespace supra {

// sums[k] (C) += a sum over N rows. f(begin, end, partial) adds the contributions of rows [begin, end) to partial
// (number of sums, C), which begins with zeros. Rows are processed in blocks of 64 and blocks are added in order,
// so the bits do not depend on the thread count. A sum that is nullptr is not computed.
void add_row_sums(std::initializer_list<float*> sums, int64_t N, int64_t C,
                  FunctionRef<void(int64_t begin, int64_t end, float* partial)> f);

}  // namespace supra
