#include <cmath>

#include "kernels/cuda.h"
#include "kernels/rows.cuh"

// softmax_features on the GPU: y = [softmax(x); softmax(-x)] for each head.   x, dx (N,f)  y, dy (N,2f)
//   dx = p (dp - sum of p dp) - n (dn - sum of n dn),  y = [p; n]
// A team of threads takes a head. Memory bounds both kernels: further passes read x from the L1 cache.

namespace supra::cuda {

namespace {

template <class T>
__global__ void __launch_bounds__(kBlockThreads) softmax_features_fwd_kernel(T* y, const T* x, int64_t N, int64_t f) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y, first = row < N ? threadIdx.x : f;
  float* const scratch = shared_memory<float>();
  x += row * f, y += row * 2 * f;
  for (const float sign : {1.0f, -1.0f}) {
    float top = -INFINITY, sum = 0;
    for (int64_t i = first; i < f; i += blockDim.x) top = fmaxf(top, sign * to_float(x[i]));
    top = team_max(top, scratch);
    for (int64_t i = first; i < f; i += blockDim.x) sum += expf(sign * to_float(x[i]) - top);
    sum = team_sum(sum, scratch);
    for (int64_t i = first; i < f; i += blockDim.x) store_1(y + i, expf(sign * to_float(x[i]) - top) / sum);
    y += f;
  }
}

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    softmax_features_bwd_kernel(T* dx, const T* dy, const T* y, int64_t N, int64_t f) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y, first = row < N ? threadIdx.x : f;
  dx += row * f, dy += row * 2 * f, y += row * 2 * f;
  const auto term = [&](int64_t i) { return to_float(y[i]) * to_float(dy[i]); };
  float p_pull = 0, n_pull = 0;
  for (int64_t i = first; i < f; i += blockDim.x) p_pull += term(i), n_pull += term(f + i);
  p_pull = team_sum(p_pull, shared_memory<float>());
  n_pull = team_sum(n_pull, shared_memory<float>());
  for (int64_t i = first; i < f; i += blockDim.x) {
    store_1(dx + i, term(i) - to_float(y[i]) * p_pull - term(f + i) + to_float(y[f + i]) * n_pull);
  }
}

}  // namespace

template <class T>
void softmax_features_fwd(T* y, const T* x, int64_t N, int64_t f) {
  const dim3 block = teams(f);
  launch<softmax_features_fwd_kernel<T>>({blocks(N, block.y), block, kTeamScratch}, y, x, N, f);
}
template <class T>
void softmax_features_bwd(T* dx, const T* dy, const T* y, int64_t N, int64_t f) {
  const dim3 block = teams(f);
  launch<softmax_features_bwd_kernel<T>>({blocks(N, block.y), block, kTeamScratch}, dx, dy, y, N, f);
}

template decltype(softmax_features_fwd<float>) softmax_features_fwd<float>;
template decltype(softmax_features_fwd<Bf16>) softmax_features_fwd<Bf16>;
template decltype(softmax_features_bwd<float>) softmax_features_bwd<float>;
template decltype(softmax_features_bwd<Bf16>) softmax_features_bwd<Bf16>;

}  // namespace supra::cuda
