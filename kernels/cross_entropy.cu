#include <cfloat>

#include "kernels/cuda.h"
#include "tensor/elements.cuh"

// Cross-entropy on the GPU: loss = lse - x[target] + z_loss lse^2, with a part for a teacher's probabilities, and its gradient
// (cross_entropy.cpp). x, dx, teacher (N,O)  targets, losses (N)
//
// A block takes a row. It reads the row once for the largest logit and the sum of exponentials, both in one pass, and once more
// for the gradient, out of the L2 cache. Threads read neighbouring vectors. Memory bounds it: x is read and dx written once.
// exp(x - lse) is computed as exp(x - largest) / sum, because lse as a float is not precise enough for large logits.

namespace supra::cuda {

constexpr int kMostThreads = 1024;

__device__ static float block_sum(float x) {
  return over_block(x, shared_memory<float>(), [](float a, float b) { return a + b; });
}

// softmax(x) = exp(x - largest) / sum
struct Softmax {
  float largest, sum;
};

template <int W, class T>
__device__ static Softmax softmax_of(const T* x, int64_t O) {
  // finite: minus infinity less minus infinity would be NaN
  float largest = -FLT_MAX, sum = 0;
  for (int64_t i = int64_t{threadIdx.x} * W; i < O; i += int64_t{blockDim.x} * W) {
    float a[W], top = largest;
    load(a, x + i);
    for (int e = 0; e < W; e++) top = fmaxf(top, a[e]);
    if (top > largest) sum *= expf(largest - top), largest = top;
    for (int e = 0; e < W; e++) sum += expf(a[e] - largest);
  }
  const float of_all = over_block(largest, shared_memory<float>(), [](float a, float b) { return fmaxf(a, b); });
  return {of_all, block_sum(sum * expf(largest - of_all))};
}

template <class T, class D, int W>
__global__ void __launch_bounds__(kMostThreads)
    cross_entropy_kernel(float* losses, D* dx, const T* x, const float* teacher, const int32_t* targets,
                         const float* dy, CrossEntropy n) {
  const int64_t row = blockIdx.x, O = n.O, first = int64_t{threadIdx.x} * W, step = int64_t{blockDim.x} * W;
  const int32_t target = targets[row];
  x += row * O, dx = dx ? dx + row * O : dx;
  if (target < 0) {
    const float zeros[W] = {};
    for (int64_t i = first; dx && i < O; i += step) store(dx + i, zeros);
    if (losses && threadIdx.x == 0) losses[row] = 0;
    return;
  }
  // read before a gradient is written in its place
  const float x_target = to_float(x[target]);
  const Softmax own = softmax_of<W>(x, O);
  Softmax taught = {0, 1};
  if (teacher) taught = softmax_of<W>(teacher += row * O, O);
  const float log_sum = logf(own.sum), lse = own.largest + log_sum, weight = n.weight * (dy ? *dy : 1);
  const float p_factor = weight * (1 + 2 * n.z_loss * lse) / own.sum,
              t_factor = weight * n.teacher_weight / taught.sum;
  const float of_target = weight * (1 - n.teacher_weight);
  float gap = 0;
  for (int64_t i = first; (dx || teacher) && i < O; i += step) {
    float a[W], t[W] = {};
    load(a, x + i);
    if (teacher) load(t, teacher + i);
    for (int e = 0; e < W; e++) {
      const float above = a[e] - own.largest;
      a[e] = expf(above) * p_factor;
      if (teacher) {
        const float p = expf(t[e] - taught.largest);
        gap += p * (t[e] - taught.largest - above);
        a[e] -= p * t_factor;
      }
      if (i + e == target) a[e] -= of_target;
    }
    if (dx) store(dx + i, a);
  }
  float loss = (1 - n.teacher_weight) * (own.largest - x_target + log_sum) + n.z_loss * lse * lse;
  // KL(p || q) = sum p (log p - log q)
  if (teacher) loss += n.teacher_weight * (block_sum(gap) / taught.sum + log_sum - logf(taught.sum));
  if (losses && threadIdx.x == 0) losses[row] = loss;
}

template <class T, class D>
void cross_entropy(float* losses, D* dx, const T* x, const float* teacher, const int32_t* targets,
                   const float* dy, const CrossEntropy& n) {
  by_width<4>(fits_vectors(n.O, x, dx, teacher), [&]<int W>(std::integral_constant<int, W>) {
    unsigned threads = 32;
    while (threads < kMostThreads && threads * W < n.O) threads *= 2;
    launch<cross_entropy_kernel<T, D, W>>({blocks(n.N, 1), threads, kMostThreads / 32 * sizeof(float)},
                                          losses, dx, x, teacher, targets, dy, n);
  });
}

__global__ void __launch_bounds__(kMostThreads)
    scaled_sum_kernel(float* sum, const float* x, int64_t N, float factor) {
  float mine = 0;
  for (int64_t i = threadIdx.x; i < N; i += kMostThreads) mine += x[i];
  mine = block_sum(mine);
  if (threadIdx.x == 0) *sum = mine * factor;
}

void scaled_sum(float* sum, const float* x, int64_t N, double factor) {
  launch<scaled_sum_kernel>({1, kMostThreads, kMostThreads / 32 * sizeof(float)}, sum, x, N, factor);
}

template <class T>
struct ScaleBy {
  T* x;
  const float* factor;
  template <int W>
  __device__ void at(unsigned, int64_t i) const {
    if (*factor == 1) return;
    float a[W];
    load(a, x + i);
    for (float& e : a) e *= *factor;
    store(x + i, a);
  }
};

template <class T>
void scale_by(T* x, const float* factor, int64_t n) {
  each_element<kVector<T>>(1, n, fits_vectors<kVector<T>>(0, x), ScaleBy<T>{x, factor});
}

template void cross_entropy(float*, float*, const float*, const float*, const int32_t*, const float*,
                            const CrossEntropy&);
template void cross_entropy(float*, Bf16*, const float*, const float*, const int32_t*, const float*,
                            const CrossEntropy&);
template void cross_entropy(float*, Bf16*, const Bf16*, const float*, const int32_t*, const float*,
                            const CrossEntropy&);
template void scale_by(float*, const float*, int64_t);
template void scale_by(Bf16*, const float*, int64_t);

}  // namespace supra::cuda
