#include "kernels/cuda_rows_by_id.h"
#include "kernels/ops.h"
#include "kernels/simd.h"
#include "tensor/quantized.h"

// embedding: y = w[ids]
//   ids (N) i32  w (O,C)  y (N,C).   dw: +=, the rows of dy with the same id are added in order
//   w of another dtype (f16, bf16, quantised) is looked up as f32, without a backward

namespace supra {

static void check_ids(const Tensor& ids, int64_t O) {
  const int32_t* id = ids.data<int32_t>();
  for (int64_t i = 0; i < ids.numel(); i++) {
    CHECK(id[i] >= 0 && id[i] < O, "embedding: id %d at position %ld, the vocabulary has %ld entries", id[i],
          static_cast<long>(i), static_cast<long>(O));
  }
}

Var embedding(const Tensor& ids, const Var& w, Dtype activations) {
  constexpr Device gpu = Device::cuda;
  CHECK(w.value().rank() == 2, "embedding: the table is %s, (O,C) is needed", to_string(w.shape()).c_str());
  const int64_t O = w.dim(0), C = w.dim(1), N = ids.numel();
  if (ids.device() == Device::cpu) check_ids(ids, O);
  Shape shape = ids.shape();
  shape.push_back(C);
  const Dtype dtype = w.dtype();
  const bool stored = dtype == Dtype::f16 || dtype == Dtype::bf16 || is_quantized(dtype);
  if (stored) refuse_gradient(format("embedding with weights in %s", name(dtype)).c_str(), {w});
  const Tensor y = Tensor::empty(shape, dtype == Dtype::f64 ? dtype : activations, w.value().device());
  const auto on_cpu = [&]<class T>(T) {
    const int32_t* id = ids.data<int32_t>();
    for (int64_t i = 0; stored && i < N; i++) {
      simd().to_f32(y.data<float>() + i * C, w.value().rows(id[i], id[i] + 1).raw(), dtype, C);
    }
    if (stored) return;
    const T* table = w.value().data<T>();
    parallel_each(N, row_grain(C), [&](int64_t i) { std::copy_n(table + id[i] * C, C, y.data<T>() + i * C); });
  };
  const auto on_gpu = [&]<class T>(T) {
    cuda::embedding_fwd(y.data<T>(gpu), ids.to(gpu).data<int32_t>(gpu), w.value().raw(gpu), dtype, N, O, C);
  };
  by_device("embedding", y, on_cpu, on_gpu);
  return record("embedding", {w}, y, [=](const Tensor& dy, Grads& grads) {
    const Tensor dw = grads.into(0);
    const RowsById rows(ids.to(Device::cpu).data<int32_t>(), N, O);
    by_device(
        "embedding", dy, [&]<class T>(T) { sum_rows_by_id(dw.data<T>(), dy.data<T>(), rows, C, true); },
        [&]<class T>(T) { add_rows_by_id<T>(dw, dy, rows); });
  });
}

}  // namespace supra
