#include "kernels/linear_attention.cuh"
#include "kernels/mma.cuh"

// Chunked linear attention on tensor cores. A block keeps S of one head of one row in registers and walks
// once along time, 64 steps a turn; q, k, v are read once and o is written once. In the words of
// linear_attention.simd.cpp, with L_i = log2 of lambda_i:
//
//   P = (Q K^T) * D           P_ij *= scale 2^(L_i - L_j) for j <= i, else 0
//   O = P V + lambda Q S      S' = lambda_n S + (rho K)^T V,  rho_j = scale 2^(L_n - L_j)
//
// Products take bf16: S goes into shared memory rounded, and stays f32 in registers.
//
// 16 warps stand in 4 rows and 4 columns. Of the chunk's 64 x 64 weights P a warp makes 16 x 16, of O its 16
// rows and a quarter of V, of S the rows 16 row + 64m and the same quarter. While a chunk is worked on the
// next one is copied.

namespace supra::cuda {

constexpr int kChunk = 64;
constexpr int kThreads = 512;

// Shared memory. What is copied ahead exists twice; which of the two holds chunk c is c % 2.
template <int K, int V>
struct MmaMemory {
  static constexpr int kInput = 2 * Tile<K>::size(kChunk) + Tile<V>::size(kChunk);
  static constexpr int kElements = 2 * kInput + Tile<V>::size(K) + Tile<kChunk>::size(kChunk);
  static constexpr size_t kBytes = kElements * sizeof(Bf16) + 2 * kChunk * sizeof(float);

  Bf16* const begin = shared_memory<Bf16>();

  __device__ Tile<K> q(int c) const { return {begin + c % 2 * kInput}; }
  __device__ Tile<K> k(int c) const { return {q(c).elements + Tile<K>::size(kChunk)}; }
  __device__ Tile<V> v(int c) const { return {k(c).elements + Tile<K>::size(kChunk)}; }
  __device__ Tile<V> state() const { return {begin + 2 * kInput}; }
  __device__ Tile<kChunk> weights() const { return {state().elements + Tile<V>::size(K)}; }
  __device__ float* log_decay(int c) const {
    return reinterpret_cast<float*>(weights().elements + Tile<kChunk>::size(kChunk)) + c % 2 * kChunk;
  }
};

// Steps past the row's length come as zeros.
template <int kColumns>
__device__ static void copy_rows(Tile<kColumns> to, const Bf16* from, int64_t step, int64_t rows) {
  constexpr int kPieces = kColumns / 8;
  for (int i = threadIdx.x; i < kChunk * kPieces; i += kThreads) {
    const int row = i / kPieces, column = i % kPieces * 8;
    const bool live = row < rows;
    copy_async_16(to.at(row, column), from + (live ? row * step + column : 0), !live);
  }
}

// L: sums of log2 g from the chunk's first step to each, by the first warp. Steps past the length leave S as
// it is.
__device__ static void sum_decays(float* L, const Head<Bf16>& head, int64_t first) {
  const int lane = threadIdx.x;
  float before = 0;
  for (int half = 0; half < 2; half++) {
    const int64_t t = first + half * 32 + lane;
    float sum = t < head.length ? head.log_decay_at(t) * 1.4426950408889634f : 0;
    for (int by = 1; by < 32; by *= 2) {
      const float left = __shfl_up_sync(kWholeWarp, sum, by);
      if (lane >= by) sum += left;
    }
    sum += before;
    L[half * 32 + lane] = sum;
    before = __shfl_sync(kWholeWarp, sum, 31);
  }
}

template <int K, int V>
__device__ static void fetch(const MmaMemory<K, V>& memory, const LinearAttentionSizes& n,
                             const Head<Bf16>& head, int c) {
  const int64_t first = int64_t{c} * kChunk, left = head.length - first;
  copy_rows(memory.q(c), head.q + first * n.q_step, n.q_step, left);
  copy_rows(memory.k(c), head.k + first * n.k_step, n.k_step, left);
  copy_rows(memory.v(c), head.v + first * n.v_step, n.v_step, left);
  copy_async_commit();
  if (threadIdx.x < 32) sum_decays(memory.log_decay(c), head, first);
}

// A pair of bf16 times two factors
__device__ static uint32_t scaled(uint32_t pair, float low, float high) {
  return pack_bf16(low_bf16(pair) * low, high_bf16(pair) * high);
}

template <int K, int V>
__global__ void __launch_bounds__(kThreads, 1)
    linear_attention_mma_kernel(Bf16* o, float* last_state, LinearAttentionInputs<Bf16> in) {
  // tiles of 16 rows of S, and of 8 columns of O and S, that a warp holds
  constexpr int kRows = K / 64, kColumns = V / 32;
  const LinearAttentionSizes& n = in.n;
  const Head<Bf16> head(in, blockIdx.x);
  const MmaMemory<K, V> memory;
  const int lane = threadIdx.x % 32, row = threadIdx.x / 128 * 16, column = threadIdx.x / 32 % 4;
  // the thread holds of every tile two pairs: in these rows, and from this column on
  const int rows[] = {row + lane / 4, row + lane / 4 + 8}, pair = lane % 4 * 2,
            first_column = column * (V / 4);

  float S[kRows][kColumns][4] = {};
  // f(two neighbours of S, their row, their first column) for all that the thread holds
  const auto each_pair = [&](auto f) {
#pragma unroll
    for (int i = 0; i < kRows * kColumns * 2; i++) {
      const int m = i / (kColumns * 2), c = i / 2 % kColumns, half = i % 2;
      f(S[m][c] + 2 * half, m * 64 + rows[half], first_column + 8 * c + pair);
    }
  };
  const auto publish = [&](const float* s, int r, int c) {
    vector_at<uint32_t>(memory.state().at(r, c)) = pack_bf16(s[0], s[1]);
  };
  if (in.state) {
    each_pair([&](float* s, int r, int c) {
      const float2 x = vector_at<const float2>(in.state + (head.index * K + r) * V + c);
      s[0] = x.x, s[1] = x.y;
    });
  }
  each_pair(publish);
  const int chunks = static_cast<int>((n.T + kChunk - 1) / kChunk);
  fetch(memory, n, head, 0);

  for (int chunk = 0; chunk < chunks; chunk++) {
    copy_async_wait<0>();
    // S and the chunk are there, and nobody reads the last one any more
    __syncthreads();
    if (chunk + 1 < chunks) fetch(memory, n, head, chunk + 1);
    const Tile<K> q = memory.q(chunk), k = memory.k(chunk);
    const Tile<V> v = memory.v(chunk);
    const float* const L = memory.log_decay(chunk);

    float P[2][4] = {}, O[kColumns][4] = {};
#pragma unroll
    for (int i = 0; i < K; i += 16) {
      uint32_t a[4], b[4];
      load_a(a, q, row, i, lane);
      // tiles above the diagonal are zero
      if (column * 16 <= row) {
        load_b_of_transposed(b, k, i, column * 16, lane);
        mma(P[0], a, b[0], b[1]);
        mma(P[1], a, b[2], b[3]);
      }
      multiply(O, a, memory.state(), i, first_column, lane);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int i = rows[half];
      const float L_i = L[i], lambda = exp2f(L_i);
#pragma unroll
      for (int c = 0; c < kColumns; c++) O[c][2 * half] *= lambda, O[c][2 * half + 1] *= lambda;
#pragma unroll
      for (int c = 0; c < 2; c++) {
        const int j = column * 16 + c * 8 + pair;
        const float D[] = {j <= i ? n.scale * exp2f(L_i - L[j]) : 0,
                           j < i ? n.scale * exp2f(L_i - L[j + 1]) : 0};
        vector_at<uint32_t>(memory.weights().at(i, j)) =
            pack_bf16(D[0] * P[c][2 * half], D[1] * P[c][2 * half + 1]);
      }
    }
    // P is whole, and all have read S
    __syncthreads();

    for (int i = 0; i <= row; i += 16) {
      uint32_t a[4];
      load_a(a, memory.weights(), row, i, lane);
      multiply(O, a, v, i, first_column, lane);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int64_t step = int64_t{chunk} * kChunk + rows[half];
      if (step >= n.T) break;
      Bf16* const to = o + ((head.row * n.T + step) * n.H + head.h) * V + first_column + pair;
#pragma unroll
      for (int c = 0; c < kColumns; c++) {
        vector_at<uint32_t>(to + 8 * c) = pack_bf16(O[c][2 * half], O[c][2 * half + 1]);
      }
    }

    const float L_end = L[kChunk - 1], lambda = exp2f(L_end);
    each_pair([&](float* s, int, int) { s[0] *= lambda, s[1] *= lambda; });
#pragma unroll
    for (int i = 0; i < kChunk; i += 16) {
      float rho[4];
      for (int e = 0; e < 4; e++) rho[e] = n.scale * exp2f(L_end - L[i + pair + e % 2 + e / 2 * 8]);
      uint32_t a[kRows][4], b[4];
#pragma unroll
      for (int m = 0; m < kRows; m++) {
        load_a_of_transposed(a[m], k, m * 64 + row, i, lane);
        for (int e = 0; e < 4; e++) a[m][e] = scaled(a[m][e], rho[e / 2 * 2], rho[e / 2 * 2 + 1]);
      }
#pragma unroll
      for (int c = 0; c < kColumns; c += 2) {
        load_b(b, v, i, first_column + c * 8, lane);
#pragma unroll
        for (int m = 0; m < kRows; m++) {
          mma(S[m][c], a[m], b[0], b[1]);
          mma(S[m][c + 1], a[m], b[2], b[3]);
        }
      }
    }
    each_pair(publish);
  }
  each_pair([&](const float* s, int r, int c) {
    vector_at<float2>(last_state + (head.index * K + r) * V + c) = {s[0], s[1]};
  });
}

template <int K, int V>
static bool run(Bf16* o, float* last_state, const LinearAttentionInputs<Bf16>& in) {
  if (in.n.K != K || in.n.V != V) return false;
  launch<linear_attention_mma_kernel<K, V>>({blocks(in.n.B * in.n.H, 1), kThreads, MmaMemory<K, V>::kBytes},
                                            o, last_state, in);
  return true;
}

bool linear_attention_mma(Bf16* o, float* last_state, const LinearAttentionInputs<Bf16>& in) {
  const auto aligned = [](const Bf16* p, int64_t step) {
    return reinterpret_cast<uintptr_t>(p) % 16 == 0 && step % 8 == 0;
  };
  const LinearAttentionSizes& n = in.n;
  if (!aligned(in.q, n.q_step) || !aligned(in.k, n.k_step) || !aligned(in.v, n.v_step)) return false;
  return run<64, 64>(o, last_state, in) || run<64, 128>(o, last_state, in) ||
         run<128, 64>(o, last_state, in) || run<128, 128>(o, last_state, in);
}

}  // namespace supra::cuda
