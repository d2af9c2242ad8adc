#pragma once
#include "autograd/var.h"
#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/rows_by_id.h"

// Sums of rows with the same id on the GPU.

namespace supra {

// Sums of rows with the same id, or of parts of them, for cuda::sum_rows().
struct Pieces {
  std::vector<int32_t> order = {}, begin = {0}, target = {};

  void end(int64_t at, int64_t to) {
    begin.push_back(static_cast<int32_t>(at));
    target.push_back(static_cast<int32_t>(to));
  }
  // f(what sum_rows takes); its arrays live as long.
  template <class F>
  void on_gpu(F f) const {
    constexpr Device gpu = Device::cuda;
    const auto upload = [](const std::vector<int32_t>& v) { return v.empty() ? Tensor() : Tensor::of(v).to(gpu); };
    const Tensor order = upload(this->order), begin = upload(this->begin), target = upload(this->target);
    f(cuda::RowSums{static_cast<int64_t>(this->target.size()), data_or_null<int32_t>(order, gpu),
                    begin.data<int32_t>(gpu), data_or_null<int32_t>(target, gpu)});
  }
};

// On the GPU: dw (O,C) += rows of dy (N,C) by id. A frequent id is summed in pieces, which a second pass adds up.
template <class T>
void add_rows_by_id(const Tensor& dw, const Tensor& dy, const RowsById& rows) {
  constexpr Device gpu = Device::cuda;
  constexpr int64_t kPiece = 64;
  const int64_t O = dw.dim(0), C = dw.dim(1);
  Pieces pieces = {.order = rows.order}, of_pieces;
  int64_t partials = 0;
  for (int64_t o = 0; o < O; o++) {
    const int64_t begin = rows.begin[o], end = rows.begin[o + 1];
    if (end - begin <= kPiece) {
      if (begin < end) pieces.end(end, o);
      continue;
    }
    for (int64_t at = begin; at < end; at += kPiece) pieces.end(std::min(end, at + kPiece), -1 - partials++);
    of_pieces.end(partials, o);
  }
  const Tensor partial = Tensor::empty({partials, C}, Dtype::f32, gpu);
  float *const sum = dw.data<float>(gpu), *const parts = partial.data<float>(gpu);
  pieces.on_gpu([&](const cuda::RowSums& s) { cuda::sum_rows(sum, parts, dy.data<T>(gpu), s, C); });
  if (partials == 0) return;
  of_pieces.on_gpu([&](const cuda::RowSums& s) { cuda::sum_rows<float>(sum, nullptr, parts, s, C); });
}

// take_rows(): the rows of any x (N,D) that count from `base` on; other rows of y stay as they are.
template <class T>
void take_on_gpu(const Tensor& y, const Tensor& x, const Tensor& index, int64_t base) {
  constexpr Device gpu = Device::cuda;
  cuda::take_rows(y.data<T>(gpu), x.data<T>(gpu), index.data<int32_t>(gpu), base, y.dim(0), x.dim(0), y.dim(1));
}

// y (M,D), zeros before: row m is row rows[m] of the sources, numbered through all of them.
inline void take_rows_on_gpu(const Tensor& y, const std::vector<Var>& sources, const std::vector<int32_t>& rows) {
  by_device("take_rows", y, [](auto) {}, [&]<class T>(T) {
    const Tensor index = Tensor::of(rows).to(Device::cuda);
    int64_t base = 0;
    for (const Var& x : sources) {
      take_on_gpu<T>(y, x.value(), index, base);
      base += x.dim(0);
    }
  });
}

// The gradient of the N rows that take_rows() numbers through: sums of rows of dy, whose row m was taken from rows[m].
template <class T>
Tensor sum_taken_on_gpu(const Tensor& dy, const std::vector<int32_t>& rows, const RowsById& taken, int64_t N) {
  std::vector<int32_t> back(N, -1);
  for (int32_t m : taken.order) back[rows[m]] = m;
  const auto untaken = std::count(back.begin(), back.end(), -1);
  const bool once = N - untaken == static_cast<int64_t>(taken.order.size());
  const Tensor dx = Tensor::zeros({N, dy.dim(1)}, once ? dy.dtype() : Dtype::f32, Device::cuda);
  if (once) take_on_gpu<T>(dx, dy, Tensor::of(back).to(Device::cuda), 0);
  else add_rows_by_id<T>(dx, dy, taken);
  return dx.to(dy.dtype());
}

}  // namespace supra
