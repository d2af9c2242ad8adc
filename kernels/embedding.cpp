#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/parallel.h"
#include "tensor/quantized.h"

// embedding: y = w[ids]
//   ids (N) i32  w (O,C)  y (N,C).   dw: +=, the rows of dy with the same id are added in order
//   w of another dtype (f16, bf16, quantised) is looked up as f32, without a backward

namespace supra {
namespace {

constexpr Device kGpu = Device::cuda;

void check_ids(const Tensor& ids, int64_t O) {
  const int32_t* id = ids.data<int32_t>();
  for (int64_t i = 0; i < ids.numel(); i++) {
    CHECK(id[i] >= 0 && id[i] < O, "embedding: id %d at position %ld, the vocabulary has %ld entries", id[i],
          static_cast<long>(i), static_cast<long>(O));
  }
}

// Sums of rows with the same id, or of a part of these, for cuda::sum_rows().
struct Pieces {
  std::vector<int32_t> order, begin = {0}, target;

  void end(size_t at, int64_t to) {
    begin.push_back(static_cast<int32_t>(at));
    target.push_back(static_cast<int32_t>(to));
  }
  // f(what sum_rows takes); its arrays live as long.
  template <class F>
  void on_gpu(F f) const {
    const auto upload = [](const std::vector<int32_t>& v) { return v.empty() ? Tensor() : Tensor::of(v).to(kGpu); };
    const Tensor order = upload(this->order), begin = upload(this->begin), target = upload(this->target);
    f(cuda::RowSums{static_cast<int64_t>(this->target.size()), data_or_null<int32_t>(order, kGpu),
                    begin.data<int32_t>(kGpu), data_or_null<int32_t>(target, kGpu)});
  }
};

// dw (O,C) += rows of dy (N,C) by id. A counting sort brings equal ids together, in order. An id that is had often
// is summed in pieces, which a second pass adds up.
template <class T>
void add_rows_by_id(const Tensor& dw, const Tensor& dy, const Tensor& ids) {
  constexpr size_t kPiece = 64;
  const int64_t O = dw.dim(0), C = dw.dim(1), N = ids.numel();
  const int32_t* id = ids.data<int32_t>();
  std::vector<size_t> next(O + 1);
  for (int64_t i = 0; i < N; i++) next[id[i] + 1]++;
  for (int64_t o = 0; o < O; o++) next[o + 1] += next[o];
  Pieces pieces, of_pieces;
  size_t partials = 0;
  for (int64_t o = 0; o < O; o++) {
    const size_t begin = next[o], end = next[o + 1];
    if (end - begin <= kPiece) {
      if (begin < end) pieces.end(end, o);
      continue;
    }
    for (size_t at = begin; at < end; at += kPiece) {
      pieces.end(std::min(end, at + kPiece), -1 - static_cast<int64_t>(partials++));
    }
    of_pieces.end(partials, o);
  }
  pieces.order.resize(N);
  for (int64_t i = 0; i < N; i++) pieces.order[next[id[i]]++] = static_cast<int32_t>(i);

  const Tensor partial = Tensor::empty({static_cast<int64_t>(partials), C}, Dtype::f32, kGpu);
  float *const sum = dw.data<float>(kGpu), *const parts = partial.data<float>(kGpu);
  pieces.on_gpu([&](const cuda::RowSums& s) { cuda::sum_rows(sum, parts, dy.data<T>(kGpu), s, C); });
  if (partials == 0) return;
  of_pieces.on_gpu([&](const cuda::RowSums& s) { cuda::sum_rows<float>(sum, nullptr, parts, s, C); });
}

}  // namespace

Var embedding(const Tensor& ids, const Var& w, Dtype activations) {
  CHECK(w.value().rank() == 2, "embedding: the table is %s, (O,C) is needed", to_string(w.shape()).c_str());
  const int64_t O = w.dim(0), C = w.dim(1), N = ids.numel();
  if (ids.device() == Device::cpu) check_ids(ids, O);
  Shape shape = ids.shape();
  shape.push_back(C);
  const Dtype dtype = w.dtype();
  const Device device = w.value().device();
  const bool stored = dtype == Dtype::f16 || dtype == Dtype::bf16 || is_quantized(dtype);
  if (stored) refuse_gradient(format("embedding with weights in %s", name(dtype)).c_str(), {w});
  const Tensor y = Tensor::empty(shape, dtype == Dtype::f64 ? dtype : activations, device);
  by_device(
      "embedding", y,
      [&]<class T>(T) {
        for (int64_t i = 0; stored && i < N; i++) {
          const Tensor row = w.value().rows(ids.data<int32_t>()[i], ids.data<int32_t>()[i] + 1);
          simd().to_f32(y.data<float>() + i * C, row.raw(), dtype, C);
        }
        if (stored) return;
        const T* table = w.value().data<T>();
        const int32_t* id = ids.data<int32_t>();
        parallel_for(N, row_grain(C), [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; i++) std::copy_n(table + id[i] * C, C, y.data<T>() + i * C);
        });
      },
      [&]<class T>(T) {
        cuda::embedding_fwd(y.data<T>(kGpu), ids.to(kGpu).data<int32_t>(kGpu), w.value().raw(kGpu), dtype, N, O, C);
      });
  return record("embedding", {w}, y, [=](const Tensor& dy, Grads& grads) {
    const Tensor dw = grads.into(0);
    by_device(
        "embedding", dy,
        [&]<class T>(T) {
          // each thread owns some columns of all rows, so no two of them meet and the order stays
          parallel_for(C, row_grain(N), [&](int64_t begin, int64_t end) {
            for (int64_t i = 0; i < N; i++) {
              T* sum = dw.data<T>() + ids.data<int32_t>()[i] * C;
              const T* term = dy.data<T>() + i * C;
              for (int64_t c = begin; c < end; c++) sum[c] += term[c];
            }
          });
        },
        [&]<class T>(T) { add_rows_by_id<T>(dw, dy, ids.to(Device::cpu)); });
  });
}

}  // namespace supra
