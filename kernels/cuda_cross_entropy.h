#pragma once
#include "kernels/cuda.h"
#include "kernels/dispatch.h"

namespace supra {

// differentiate() of cross_entropy.cpp on the GPU. T is dx's dtype; logits may be f32 beside a gradient in bf16.
template <class T>
void differentiate_on_gpu(const Tensor& losses, const Tensor& dx, const Tensor& x, const Tensor& teacher, const Tensor& targets,
                          const Tensor& dy, const cuda::CrossEntropy& n) {
  constexpr Device gpu = Device::cuda;
  const auto go = [&]<class Logit>(Logit) {
    cuda::cross_entropy(data_or_null<float>(losses, gpu), data_or_null<T>(dx, gpu), x.data<Logit>(gpu),
                        data_or_null<float>(teacher, gpu), targets.data<int32_t>(gpu), data_or_null<float>(dy, gpu), n);
  };
  x.dtype() == Dtype::f32 ? go(float()) : go(T());
}

}  // namespace supra
