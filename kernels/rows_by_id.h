#pragma once
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/dispatch.h"

// If rows are selected by id, the gradient of a row is the sum of several rows of dy. They are grouped and added in order.

namespace supra {

// A counting sort of N ids below `ids`: the rows of id i are order[begin[i]], ..., order[begin[i + 1] - 1], ascending. Negative
// ids are left out.
struct RowsById {
  std::vector<int32_t> begin, order;

  RowsById(const int32_t* id, int64_t N, int64_t ids) : begin(ids + 1) {
    for (int64_t i = 0; i < N; i++) {
      if (id[i] >= 0) begin[id[i]]++;
    }
    std::partial_sum(begin.begin(), begin.end(), begin.begin());
    order.resize(begin.back());
    for (int64_t i = N; i-- > 0;) {
      if (id[i] >= 0) order[--begin[id[i]]] = static_cast<int32_t>(i);
    }
  }
};

// sums (ids,C) (+)= the rows of x (N,C) of each id, in order.   On the GPU: add_rows_by_id()
template <class T>
void sum_rows_by_id(T* sums, const T* x, const RowsById& rows, int64_t C, bool add) {
  parallel_each(std::ssize(rows.begin) - 1, row_grain(C), [&](int64_t id) {
    T* const sum = sums + id * C;
    if (!add) std::fill_n(sum, C, T(0));
    for (int64_t i = rows.begin[id]; i < rows.begin[id + 1]; i++) {
      const T* term = x + rows.order[i] * C;
      for (int64_t c = 0; c < C; c++) sum[c] += term[c];
    }
  });
}

}  // namespace supra
