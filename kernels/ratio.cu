#include "kernels/cuda.h"
#include "kernels/rows.cuh"

// divide_by_last on the GPU: y_i = x_i / (x_V + eps).   x, dx (N,V+1)  y, dy (N,V)
//   dx_i = dy_i / (x_V + eps),  dx_V = - sum of dx_i x_i / (x_V + eps)
// Forward: a thread takes an element. Backward: a team of threads takes a row, of which it needs a sum. Memory bounds both.
// Rows of V + 1 elements are not aligned, so there are no vectors.

namespace supra::cuda {

namespace {

template <class T>
struct Divide {
  T* y;
  const T* x;
  int64_t V;
  float eps;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    store_1(y + row * V + i, to_float(x[row * (V + 1) + i]) / (to_float(x[row * (V + 1) + V]) + eps));
  }
};

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    divide_by_last_bwd_kernel(T* dx, const T* dy, const T* x, int64_t N, int64_t V, float eps) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  const int64_t first = row < N ? threadIdx.x : V;
  dx += row * (V + 1), dy += row * V, x += row * (V + 1);
  const float inverse = row < N ? 1 / (to_float(x[V]) + eps) : 0;
  float pull = 0;
  for (int64_t i = first; i < V; i += blockDim.x) {
    const float d = to_float(dy[i]) * inverse;
    pull += d * to_float(x[i]);
    store_1(dx + i, d);
  }
  pull = team_sum(pull, shared_memory<float>());
  if (row < N && threadIdx.x == 0) store_1(dx + V, -pull * inverse);
}

}  // namespace

template <class T>
void divide_by_last_fwd(T* y, const T* x, int64_t N, int64_t V, double eps) {
  each_element<1>(N, V, false, Divide<T>{y, x, V, static_cast<float>(eps)});
}
template <class T>
void divide_by_last_bwd(T* dx, const T* dy, const T* x, int64_t N, int64_t V, double eps) {
  const dim3 block = teams(V);
  launch<divide_by_last_bwd_kernel<T>>({blocks(N, block.y), block, kTeamScratch}, dx, dy, x, N, V, eps);
}

template decltype(divide_by_last_fwd<float>) divide_by_last_fwd<float>;
template decltype(divide_by_last_fwd<Bf16>) divide_by_last_fwd<Bf16>;
template decltype(divide_by_last_bwd<float>) divide_by_last_bwd<float>;
template decltype(divide_by_last_bwd<Bf16>) divide_by_last_bwd<Bf16>;

}  // namespace supra::cuda
