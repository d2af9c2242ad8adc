#include <type_traits>

#include "kernels/linear_attention.cuh"

// Linear attention on the GPU for any type and size: the chunked forward without tensor cores, and the step
// that decodes. Formulas: linear_attention.cpp; the matrices of a chunk: linear_attention.simd.cpp.

namespace supra::cuda {

constexpr int kChunk = 32;  // steps, and columns of V that a block takes
constexpr int kWarps = 8;
constexpr int64_t kLargestK = 512;

// Shared memory of a chunk. Rows of q and k have an odd pitch: lanes that read down a column meet no bank
// twice.
struct ChunkMemory {
  double* log_decay;  // (chunk) sums of log g from the chunk's first step to each
  float *q, *k;       // (chunk, K+1)
  float *v, *p;       // (chunk, 32): the block's columns of V, and the weights of its keys
  float* state;       // (K, 32)

  __device__ explicit ChunkMemory(int K) {
    log_decay = shared_memory<double>();
    q = reinterpret_cast<float*>(log_decay + kChunk);
    k = q + kChunk * (K + 1);
    v = k + kChunk * (K + 1);
    p = v + kChunk * kChunk;
    state = p + kChunk * kChunk;
  }
  static size_t bytes(int64_t K) {
    return kChunk * sizeof(double) +
           (2 * kChunk * (K + 1) + 2 * kChunk * kChunk + K * kChunk) * sizeof(float);
  }
};

// A block takes one head of one row and 32 columns of V: those of S stand for themselves. A warp takes every
// eighth step of the chunk and every eighth row of S, a lane one column.
template <class T>
__global__ void __launch_bounds__(kWarps * 32)
    linear_attention_fwd_kernel(T* o, float* last_state, LinearAttentionInputs<T> in) {
  const LinearAttentionSizes& n = in.n;
  const Head<T> head(in, blockIdx.x);
  const int K = static_cast<int>(n.K), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t column = int64_t{blockIdx.y} * 32 + lane;
  const bool live = column < n.V;
  const ChunkMemory m(K);
  for (int i = warp; i < K; i += kWarps) {
    m.state[i * 32 + lane] = in.state && live ? in.state[(head.index * K + i) * n.V + column] : 0;
  }
  for (int64_t first = 0; first < n.T; first += kChunk) {
    const int64_t left = head.length - first;
    for (int i = warp; i < kChunk; i += kWarps) {
      const int64_t t = first + i;
      for (int c = lane; c < K; c += 32) {
        m.q[i * (K + 1) + c] = i < left ? to_float(head.q[t * n.q_step + c]) : 0;
        m.k[i * (K + 1) + c] = i < left ? to_float(head.k[t * n.k_step + c]) : 0;
      }
      m.v[i * 32 + lane] = i < left && live ? to_float(head.v[t * n.v_step + column]) : 0;
    }
    if (warp == 0) {
      double sum = 0;
      for (int i = 0; i <= lane && i < left; i++) sum += head.log_decay_at(first + i);
      m.log_decay[lane] = sum;
    }
    __syncthreads();
    for (int i = warp; i < kChunk; i += kWarps) {
      float weight = 0;
      for (int c = 0; c < K; c++) weight += m.q[i * (K + 1) + c] * m.k[lane * (K + 1) + c];
      const float decay = expf(static_cast<float>(m.log_decay[i] - m.log_decay[lane]));
      m.p[i * 32 + lane] = lane <= i ? n.scale * decay * weight : 0;
      __syncwarp();
      float before = 0, within = 0;
      for (int c = 0; c < K; c++) before += m.q[i * (K + 1) + c] * m.state[c * 32 + lane];
      for (int j = 0; j <= i; j++) within += m.p[i * 32 + j] * m.v[j * 32 + lane];
      const int64_t t = first + i;
      const float y = expf(static_cast<float>(m.log_decay[i])) * before + within;
      if (live && t < n.T) store_1(o + ((head.row * n.T + t) * n.H + head.h) * n.V + column, y);
    }
    // all have read S
    __syncthreads();
    const double whole = m.log_decay[kChunk - 1];
    // lane j keeps what is left at the chunk's end of a step j
    const float kept = n.scale * expf(static_cast<float>(whole - m.log_decay[lane]));
    for (int c = warp; c < K; c += kWarps) {
      float s = expf(static_cast<float>(whole)) * m.state[c * 32 + lane];
      for (int j = 0; j < kChunk; j++) {
        s += __shfl_sync(kWholeWarp, kept, j) * m.k[j * (K + 1) + c] * m.v[j * 32 + lane];
      }
      m.state[c * 32 + lane] = s;
    }
    __syncthreads();
  }
  for (int i = warp; live && i < K; i += kWarps) {
    last_state[(head.index * K + i) * n.V + column] = m.state[i * 32 + lane];
  }
}

// S = g S + scale k v^T, o = q S. A block takes one head of one row and as many columns of V as its threads
// span, W each; blockDim.y threads share a column and take every so manieth row of S.
template <class T, int W>
__global__ void __launch_bounds__(kWarps * 32)
    linear_attention_step_kernel(T* o, float* state, LinearAttentionInputs<T> in) {
  const LinearAttentionSizes& n = in.n;
  const Head<T> head(in, blockIdx.x);
  const int64_t column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * W;
  const float g = expf(head.log_decay_at(0));
  float sum[W] = {};
  if (column < n.V) {
    float v[W];
    load(v, head.v + column);
    for (int e = 0; e < W; e++) v[e] *= n.scale;
    float* const S = state + head.index * n.K * n.V + column;
    for (int64_t i = threadIdx.y; i < n.K; i += blockDim.y) {
      const float q = to_float(head.q[i]), k = to_float(head.k[i]);
      float s[W];
      load(s, S + i * n.V);
      for (int e = 0; e < W; e++) {
        s[e] = g * s[e] + k * v[e];
        sum[e] += q * s[e];
      }
      store(S + i * n.V, s);
    }
  }
  float* const sums = shared_memory<float>();
  const int width = blockDim.x * W;
  for (int e = 0; e < W; e++) sums[threadIdx.y * width + threadIdx.x * W + e] = sum[e];
  __syncthreads();
  if (threadIdx.y > 0 || column >= n.V) return;
  for (unsigned y = 1; y < blockDim.y; y++) {
    for (int e = 0; e < W; e++) sum[e] += sums[y * width + threadIdx.x * W + e];
  }
  store(o + head.index * n.V + column, sum);
}

template <class T>
void linear_attention_fwd(T* o, float* last_state, const LinearAttentionInputs<T>& in) {
  const LinearAttentionSizes& n = in.n;
  if constexpr (std::is_same_v<T, Bf16>) {
    if (linear_attention_mma(o, last_state, in)) return;
  }
  CHECK(n.K <= kLargestK, "linear_attention: keys of %ld, the GPU's kernel takes up to %ld",
        static_cast<long>(n.K), static_cast<long>(kLargestK));
  launch<linear_attention_fwd_kernel<T>>(
      {{blocks(n.B * n.H, 1), blocks(n.V, 32)}, kWarps * 32, ChunkMemory::bytes(n.K)}, o, last_state, in);
}

template <class T, int W>
static void step(T* o, float* state, const LinearAttentionInputs<T>& in) {
  const LinearAttentionSizes& n = in.n;
  unsigned across = 1;
  while (across < 32 && across * W < n.V) across *= 2;
  launch<linear_attention_step_kernel<T, W>>({{blocks(n.B * n.H, 1), blocks(n.V, across * W)},
                                              {across, kWarps * 32 / across},
                                              kWarps * 32 * W * sizeof(float)},
                                             o, state, in);
}

template <class T>
void linear_attention_step(T* o, float* state, const LinearAttentionInputs<T>& in) {
  CHECK(in.n.T == 1, "linear_attention_step: %ld steps were given, it takes one (use linear_attention)",
        static_cast<long>(in.n.T));
  const bool vectors = fits_vectors(in.n.V, o, in.v, state) && in.n.v_step % 4 == 0;
  (vectors ? step<T, 4> : step<T, 1>)(o, state, in);
}

template void linear_attention_fwd(float*, float*, const LinearAttentionInputs<float>&);
template void linear_attention_fwd(Bf16*, float*, const LinearAttentionInputs<Bf16>&);
template void linear_attention_step(float*, float*, const LinearAttentionInputs<float>&);
template void linear_attention_step(Bf16*, float*, const LinearAttentionInputs<Bf16>&);

}  // namespace supra::cuda
