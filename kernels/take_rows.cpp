#include <cstring>

#include "kernels/cuda_rows_by_id.h"
#include "kernels/ops.h"

// take_rows: y_m = row index[m] of the sources, counted through all of them; zeros where it is -1
//   sources (N1,D), (N2,D), ...  y (M,D); on the CPU forward takes any dtype.
//   dsources: =, the gradients of a row that is taken often are added in the order of m

namespace supra {

Var take_rows(const std::vector<Var>& sources, const std::vector<int64_t>& index) {
  CHECK(!sources.empty(), "take_rows: no source was given, one at least is needed");
  const int64_t M = static_cast<int64_t>(index.size()), D = sources[0].dim(-1);
  const Dtype dtype = sources[0].dtype();
  const Device device = sources[0].value().device();
  std::vector<int64_t> first = {0};
  for (const Var& x : sources) {
    CHECK(x.value().rank() == 2 && x.dim(1) == D && x.dtype() == dtype && x.value().device() == device,
          "take_rows: source %zu is %s of %s, expected (N,%ld) of %s where the first one lies", first.size() - 1,
          to_string(x.shape()).c_str(), name(x.dtype()), static_cast<long>(D), name(dtype));
    first.push_back(first.back() + x.dim(0));
  }
  const int64_t N = first.back();
  CHECK(M < INT32_MAX && N < INT32_MAX, "take_rows: %ld of %ld rows, fewer than 2^31 are expected", static_cast<long>(M),
        static_cast<long>(N));
  for (int64_t m = 0; m < M; m++) {
    CHECK(index[m] >= -1 && index[m] < N, "take_rows: index %ld at position %ld, expected -1 or one of %ld rows",
          static_cast<long>(index[m]), static_cast<long>(m), static_cast<long>(N));
  }
  std::vector<int32_t> rows(index.begin(), index.end());
  const Tensor y = (device == Device::cuda ? Tensor::zeros : Tensor::empty)({M, D}, dtype, device);
  if (device == Device::cuda) {
    take_rows_on_gpu(y, sources, rows);
  } else {
    const int64_t bytes = D * static_cast<int64_t>(size_of(dtype));
    parallel_each(M, row_grain(D), [&](int64_t m) {
      char* const to = static_cast<char*>(y.raw()) + m * bytes;
      const int64_t s = std::upper_bound(first.begin(), first.end(), index[m]) - first.begin() - 1;
      if (s < 0)
        std::memset(to, 0, bytes);
      else
        std::memcpy(to, static_cast<const char*>(sources[s].value().raw()) + (index[m] - first[s]) * bytes, bytes);
    });
  }
  return record("take_rows", sources, y, [=, rows = std::move(rows)](const Tensor& dy, Grads& grads) {
    const RowsById taken(rows.data(), M, N);
    Tensor dx;
    by_device(
        "take_rows", dy,
        [&]<class T>(T) {
          dx = Tensor::empty({N, D}, dtype);
          sum_rows_by_id(dx.data<T>(), dy.data<T>(), taken, D, false);
        },
        [&]<class T>(T) { dx = sum_taken_on_gpu<T>(dy, rows, taken, N); });
    for (size_t s = 0; s + 1 < first.size(); s++) grads.give(s, dx.rows(first[s], first[s + 1]));
  });
}

}  // namespace supra
