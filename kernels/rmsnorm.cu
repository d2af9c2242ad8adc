#include "kernels/cuda.h"
#include "kernels/norm.cuh"

// rmsnorm on the GPU: formula, kernels and threads are in norm.cuh.

namespace supra::cuda {

template <class T>
void rmsnorm_fwd(T* y, float* rstd, const T* x, const float* w, int64_t N, int64_t C, double eps) {
  norm_fwd<Norm::rms, T>(y, nullptr, rstd, x, w, nullptr, N, C, eps);
}

template <class T>
void rmsnorm_bwd(T* dx, float* dw, const T* dy, const T* x, const float* w, const float* rstd, int64_t N,
                 int64_t C) {
  norm_bwd<Norm::rms, T>(dx, dw, nullptr, dy, x, w, nullptr, rstd, N, C);
}

template decltype(rmsnorm_fwd<float>) rmsnorm_fwd<float>;
template decltype(rmsnorm_fwd<Bf16>) rmsnorm_fwd<Bf16>;
template decltype(rmsnorm_bwd<float>) rmsnorm_bwd<float>;
template decltype(rmsnorm_bwd<Bf16>) rmsnorm_bwd<Bf16>;

}  // namespace supra::cuda
