#include "kernels/cuda.h"
#include "kernels/rows.cuh"

// join_attention on the GPU: y = (e^lse o + e^mass u) / (e^lse + e^mass z) (join_attention.cpp has the gradients)
//   o, y (N,V)  far (N,V+1) = [u; z]  lse, mass (N).   Forward: a thread takes an element. Backward: a team of threads takes a
// row, of which it needs two sums. Memory bounds both. Rows of V + 1 elements are not aligned, so there are no vectors.

namespace supra::cuda {

namespace {

template <class T>
struct JoinInputs {
  const T* o;
  const float* lse;
  const T *far, *mass;
  int64_t V;
};

// y = near o + far u
struct JoinWeights {
  float near, far, z;

  template <class T>
  __device__ JoinWeights(const JoinInputs<T>& in, int64_t row) : z(to_float(in.far[row * (in.V + 1) + in.V])) {
    const float lse = in.lse[row], mass = to_float(in.mass[row]), shift = z == 0 ? lse : fmaxf(lse, mass);
    near = expf(lse - shift), far = expf(fminf(mass - shift, 80));
    const float inverse = 1 / (near + far * z);
    near *= inverse, far *= inverse;
  }
};

template <class T>
struct Join {
  T* y;
  JoinInputs<T> in;
  template <int W>
  __device__ void at(unsigned row, int64_t i) const {
    const JoinWeights w(in, row);
    store_1(y + row * in.V + i, w.near * to_float(in.o[row * in.V + i]) + w.far * to_float(in.far[row * (in.V + 1) + i]));
  }
};

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    join_attention_bwd_kernel(T* d_o, float* dlse, T* dfar, T* dmass, const T* dy, const T* y, JoinInputs<T> in, int64_t N) {
  const int64_t V = in.V, row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y, first = row < N ? threadIdx.x : V;
  const JoinWeights w(in, row < N ? row : 0);
  d_o += row * V, dfar += row * (V + 1), dy += row * V, y += row * V;
  const T *const o = in.o + row * V, *const u = in.far + row * (V + 1);
  float along = 0, apart = 0;
  for (int64_t i = first; i < V; i += blockDim.x) {
    const float d = to_float(dy[i]);
    along += d * to_float(y[i]);
    apart += d * (to_float(u[i]) - w.z * to_float(o[i]));
    store_1(d_o + i, w.near * d);
    store_1(dfar + i, w.far * d);
  }
  along = team_sum(along, shared_memory<float>());
  apart = team_sum(apart, shared_memory<float>());
  if (row >= N || threadIdx.x > 0) return;
  store_1(dfar + V, -w.far * along);
  store_1(dmass + row, w.near * w.far * apart);
  dlse[row] = -w.near * w.far * apart;
}

}  // namespace

template <class T>
void join_attention_fwd(T* y, const T* o, const float* lse, const T* far, const T* mass, int64_t N, int64_t V) {
  each_element<1>(N, V, false, Join<T>{y, {o, lse, far, mass, V}});
}
template <class T>
void join_attention_bwd(T* d_o, float* dlse, T* dfar, T* dmass, const T* dy, const T* y, const T* o, const float* lse,
                        const T* far, const T* mass, int64_t N, int64_t V) {
  const dim3 block = teams(V);
  const JoinInputs<T> in = {o, lse, far, mass, V};
  launch<join_attention_bwd_kernel<T>>({blocks(N, block.y), block, kTeamScratch}, d_o, dlse, dfar, dmass, dy, y, in, N);
}

template decltype(join_attention_fwd<float>) join_attention_fwd<float>;
template decltype(join_attention_fwd<Bf16>) join_attention_fwd<Bf16>;
template decltype(join_attention_bwd<float>) join_attention_bwd<float>;
template decltype(join_attention_bwd<Bf16>) join_attention_bwd<Bf16>;

}  // namespace supra::cuda
