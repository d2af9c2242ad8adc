#pragma once
#include "kernels/cuda.h"
#include "kernels/dispatch.h"
#include "kernels/multiply.h"

// Products of tensors on the GPU.

namespace supra {

// multiply() for a in T: b and the bias are converted, once per call.
template <class T>
void multiply_on_gpu(const cuda::Product& p, const Tensor& c, bool accumulate, const Tensor& a, const Tensor& b,
                     const Epilogue& after) {
  constexpr Device gpu = Device::cuda;
  const Tensor factor = b.to(a.dtype()), bias = after.bias.defined() ? after.bias.to(c.dtype()) : Tensor();
  const auto go = [&]<class Out>(Out) {
    cuda::gemm(p, a.data<T>(gpu), factor.data<T>(gpu), accumulate, c.data<Out>(gpu),
               {data_or_null<Out>(bias, gpu), after.relu, data_or_null<float>(after.sums, gpu)});
  };
  c.dtype() == Dtype::f32 ? go(float()) : go(T());
}

// For few rows of x (f32 or bf16; y the same), weights as they are stored: y (..., O) = x (..., C) w(O,C)^T + bias (O) or
// undefined, w in f32 or any dtype that gemv.h lists. Returns false and does nothing on the CPU, and for too many rows.
inline bool multiply_few_on_gpu(const Tensor& y, const Tensor& x, const Tensor& w, const Tensor& bias) {
  constexpr Device gpu = Device::cuda;
  if (x.device() != gpu || row_count(x) > cuda::kGemvRows) return false;
  const int64_t N = row_count(x), O = w.dim(0), C = w.dim(1);
  by_device("linear", x, [](auto) {}, [&]<class T>(T) {
    cuda::gemv(y.data<T>(gpu), x.data<T>(gpu), w.raw(gpu), w.dtype(), data_or_null<float>(bias, gpu), N, O, C);
  });
  return true;
}

}  // namespace supra
