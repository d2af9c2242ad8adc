#include "supra/formats/rearrange.h"

#include <cstring>

#include "tensor/parallel.h"

namespace supra {

static uint8_t* bytes_of(const Tensor& t) { return static_cast<uint8_t*>(t.raw()); }

void copy_rows(const Tensor& to, const Tensor& x, const std::function<int64_t(int64_t)>& from) {
  if (to.dim(0) == 0) return;
  const size_t row_bytes = to.bytes() / static_cast<size_t>(to.dim(0));
  parallel_for(to.dim(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      memcpy(bytes_of(to) + static_cast<size_t>(row) * row_bytes, bytes_of(x) + static_cast<size_t>(from(row)) * row_bytes, row_bytes);
    }
  });
}

Tensor plus(const Tensor& x, float number) {
  const Tensor y = x.to(Dtype::f32).clone();
  for (int64_t i = 0; i < y.numel(); i++) y.data<float>()[i] += number;
  return y;
}

Tensor transposed(const Tensor& x) {
  const int64_t rows = x.dim(0), columns = x.dim(1);
  const size_t size = size_of(x.dtype());
  const Tensor y = Tensor::empty({columns, rows}, x.dtype());
  parallel_for(columns, 16, [&](int64_t begin, int64_t end) {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t c = begin; c < end; c++) {
        memcpy(bytes_of(y) + static_cast<size_t>(c * rows + r) * size, bytes_of(x) + static_cast<size_t>(r * columns + c) * size, size);
      }
    }
  });
  return y;
}

}  // namespace supra
