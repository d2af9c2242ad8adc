#include "kernels/cuda.h"
#include "kernels/norm.cuh"

// groupnorm on the GPU: formula, kernels and threads are in norm.cuh.

namespace supra::cuda {

template <class T>
void groupnorm_fwd(T* y, float* rstd, const T* x, int64_t N, int64_t D, double eps) {
  norm_fwd<Norm::group, T>(y, nullptr, rstd, x, nullptr, nullptr, N, D, eps);
}

template <class T>
void groupnorm_bwd(T* dx, const T* dy, const T* y, const float* rstd, int64_t N, int64_t D) {
  norm_bwd<Norm::group, T>(dx, nullptr, nullptr, dy, y, nullptr, nullptr, rstd, N, D);
}

template decltype(groupnorm_fwd<float>) groupnorm_fwd<float>;
template decltype(groupnorm_fwd<Bf16>) groupnorm_fwd<Bf16>;
template decltype(groupnorm_bwd<float>) groupnorm_bwd<float>;
template decltype(groupnorm_bwd<Bf16>) groupnorm_bwd<Bf16>;

}  // namespace supra::cuda
