#include "kernels/cuda.h"
#include "kernels/norm.cuh"

// layernorm on the GPU: formula, kernels and threads are in norm.cuh.

namespace supra::cuda {

template <class T>
void layernorm_fwd(T* y, float* mean, float* rstd, const T* x, const float* w, const float* b, int64_t N,
                   int64_t C, double eps) {
  norm_fwd<Norm::layer, T>(y, mean, rstd, x, w, b, N, C, eps);
}

template <class T>
void layernorm_bwd(T* dx, float* dw, float* db, const T* dy, const T* x, const float* w, const float* mean,
                   const float* rstd, int64_t N, int64_t C) {
  norm_bwd<Norm::layer, T>(dx, dw, db, dy, x, w, mean, rstd, N, C);
}

template decltype(layernorm_fwd<float>) layernorm_fwd<float>;
template decltype(layernorm_fwd<Bf16>) layernorm_fwd<Bf16>;
template decltype(layernorm_bwd<float>) layernorm_bwd<float>;
template decltype(layernorm_bwd<Bf16>) layernorm_bwd<Bf16>;

}  // namespace supra::cuda
