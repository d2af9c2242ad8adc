#include "kernels/adamw.h"
#include "kernels/cuda.h"
#include "tensor/elements.cuh"

// AdamW on the GPU, in place: m = old_m m + new_m g,  v = old_v v + new_v g^2,  w = keep w - rate m / (sqrt(v) v_scale + eps)
// (adamw.cpp has the factors), and the sum of squares for clipping. w, m, v, g: n elements of f32. A thread takes four
// elements. Memory bounds both: AdamW reads 16 bytes and writes 12 for each element.

namespace supra::cuda {

namespace {

struct Adamw {
  float *w, *m, *v;
  const float* g;
  AdamwFactors f;
  template <int W>
  __device__ void at(unsigned, int64_t i) const {
    float weight[W], mean[W], square[W], grad[W];
    load(weight, w + i), load(mean, m + i), load(square, v + i), load(grad, g + i);
    for (int e = 0; e < W; e++) {
      const float d = grad[e] * f.grad_scale;
      mean[e] = f.old_m * mean[e] + f.new_m * d;
      square[e] = f.old_v * square[e] + f.new_v * d * d;
      weight[e] = f.keep * weight[e] - f.rate * mean[e] / (sqrtf(square[e]) * f.v_scale + f.eps);
    }
    store(w + i, weight), store(m + i, mean), store(v + i, square);
  }
};

// sums (gridDim.x): a block adds the squares of kSquaresBlock elements, in double and in a fixed order.
template <class T>
__global__ void __launch_bounds__(kBlockThreads) squares_kernel(double* sums, const T* x, int64_t n) {
  double* const threads = shared_memory<double>();
  const int64_t begin = int64_t{blockIdx.x} * kSquaresBlock, end = std::min(n, begin + kSquaresBlock);
  double sum = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += kBlockThreads) {
    const double e = to_float(x[i]);
    sum += e * e;
  }
  threads[threadIdx.x] = sum;
  for (unsigned half = kBlockThreads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) threads[threadIdx.x] += threads[threadIdx.x + half];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = threads[0];
}

}  // namespace

void adamw(float* w, float* m, float* v, const float* g, int64_t n, const AdamwFactors& factors) {
  each_element<4>(1, n, fits_vectors<4>(0, w, m, v, g), Adamw{w, m, v, g, factors});
}

template <class T>
void sum_squares(double* sums, const T* x, int64_t n) {
  launch<squares_kernel<T>>({blocks(n, kSquaresBlock), kBlockThreads, kBlockThreads * sizeof(double)}, sums, x, n);
}

template decltype(sum_squares<float>) sum_squares<float>;
template decltype(sum_squares<Bf16>) sum_squares<Bf16>;

}  // namespace supra::cuda
