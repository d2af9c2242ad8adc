#include "kernels/delta_attention_mma.cuh"

// Chunked linear attention on tensor cores: bf16, K and V of 64 or 128. q, k (B,T,H,K)  v, o (B,T,H,V)  S (B,H,K,V) in f32
//
//   P = (Q K^T) * D           P_ij *= scale 2^(L_i - L_j) for j <= i, else 0
//   O = P V + lambda Q S      S' = lambda_n S + (rho K)^T V,  rho_j = scale 2^(L_n - L_j)
//
// for each chunk of 64 steps, where L_i is the sum of log2 g up to step i and lambda_i = 2^L_i (linear_attention.simd.cpp has
// the same formulas). Where the sweep says so, scale stands before lambda instead of in rho.
//
// A block takes one head of one document, or of a segment of it, and walks once along time, a chunk at a time, with S in
// registers. It reads q, k and v once and writes o once. 16 warps form 4 rows of 4 columns. Of the 64 x 64 weights P a warp
// computes 16 x 16; of O its 16 rows and a quarter of the columns; of S the rows 16 row + 64 m and the same quarter. Factors of
// a product are fragments of bf16, read from tiles in shared memory (linear_attention_tiles.cuh): P and S are rounded for it,
// sums and S itself stay f32. While a chunk is worked on, the next one is copied, if shared memory holds both.
//
// What bounds it: a chunk takes 64 operations (K = V = 64) or 96 (128) for each byte that is read or written. The A100 can do
// 156 in that time, so memory bounds the kernel at best. The chunks of a head follow one another with three barriers each, so
// latency bounds it where there are fewer blocks than multiprocessors; linear_attention.cu then cuts documents into segments.
// 512 threads leave 128 registers to each, and S, O and P nearly fill them.

namespace supra::cuda {

// S in registers, f32: what a thread holds of its warp's tiles.
template <int K, int V>
struct StateFragments {
  static constexpr int kRows = K / 64, kColumns = V / 32;  // tiles of 16 rows, and of 8 columns

  const Place& at;
  float S[kRows][kColumns][4] = {};

  // f(a pair of neighbours, its row, its first column)
  template <class F>
  __device__ __forceinline__ void each_pair(F f) {
#pragma unroll
    for (int i = 0; i < kRows * kColumns * 2; i++) {
      const int m = i / (kColumns * 2), c = i / 2 % kColumns, half = i % 2;
      f(S[m][c] + 2 * half, m * 64 + at.rows[half], at.column * (V / 4) + 8 * c + at.pair);
    }
  }
  __device__ __forceinline__ void read(const State& from) {
    each_pair([&](float* s, int r, int c) { s[0] = *from.at(r, c), s[1] = *from.at(r, c + 1); });
  }
  __device__ __forceinline__ void write(const State& to, float factor) {
    each_pair([&](const float* s, int r, int c) { *to.at(r, c) = factor * s[0], *to.at(r, c + 1) = factor * s[1]; });
  }
  // To shared memory, rounded to bf16: a factor of the next chunk's O.
  __device__ __forceinline__ void round_to(Tile<V> to) {
    each_pair([&](const float* s, int r, int c) { vector_at<uint32_t>(to.at(r, c)) = pack_bf16(s[0], s[1]); });
  }

  // S = lambda_n S + (rho K)^T V
  __device__ __forceinline__ void add_chunk(Tile<K> k, Tile<V> v, const float* L, float in_scale) {
    const float L_end = L[kChunk - 1], lambda = exp2f(L_end);
    each_pair([&](float* s, int, int) { s[0] *= lambda, s[1] *= lambda; });
#pragma unroll
    for (int i = 0; i < kChunk; i += 16) {
      float rho[4];
      for (int e = 0; e < 4; e++) rho[e] = in_scale * exp2f(L_end - L[i + at.pair + e % 2 + e / 2 * 8]);
      uint32_t a[kRows][4], b[4];
#pragma unroll
      for (int m = 0; m < kRows; m++) {
        load_a_of_transposed(a[m], k, m * 64 + at.row, i, at.lane);
        for (int e = 0; e < 4; e++) a[m][e] = scaled(a[m][e], rho[e / 2 * 2], rho[e / 2 * 2 + 1]);
      }
#pragma unroll
      for (int n = 0; n < kColumns; n += 2) {
        load_b(b, v, i, at.column * (V / 4) + n * 8, at.lane);
#pragma unroll
        for (int m = 0; m < kRows; m++) {
          mma(S[m][n], a[m], b[0], b[1]);
          mma(S[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
  }
  // A pair of bf16 times two factors
  __device__ __forceinline__ static uint32_t scaled(uint32_t pair, float low, float high) {
    return pack_bf16(low_bf16(pair) * low, high_bf16(pair) * high);
  }
};

// P = Q K^T, O = Q S. Tiles of P above the diagonal stay zero.
template <int K, int V>
__device__ __forceinline__ void multiply_queries(float (&P)[2][4], float (&O)[V / 32][4], Tile<K> q, Tile<K> k, Tile<V> state,
                                                 const Place& at) {
#pragma unroll
  for (int i = 0; i < K; i += 16) {
    uint32_t a[4], b[4];
    load_a(a, q, at.row, i, at.lane);
    if (at.column * 16 <= at.row) {
      load_b_of_transposed(b, k, i, at.column * 16, at.lane);
      mma(P[0], a, b[0], b[1]);
      mma(P[1], a, b[2], b[3]);
    }
    multiply(O, a, state, i, at.column * (V / 4), at.lane);
  }
}

// P = P * D, O = lambda O, with the sweep's scales
template <int V>
__device__ __forceinline__ void apply_decays(float (&P)[2][4], float (&O)[V / 32][4], const float* L, const Sweep<Bf16>& sweep,
                                             const Place& at) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int i = at.rows[half];
    const float L_i = L[i], lambda = sweep.out_scale * exp2f(L_i);
#pragma unroll
    for (int n = 0; n < V / 32; n++) O[n][2 * half] *= lambda, O[n][2 * half + 1] *= lambda;
    const float scale = sweep.in_scale * sweep.out_scale;
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const int j = at.column * 16 + n * 8 + at.pair;
      P[n][2 * half] *= j + sweep.strict <= i ? scale * exp2f(L_i - L[j]) : 0;
      P[n][2 * half + 1] *= j + sweep.strict < i ? scale * exp2f(L_i - L[j + 1]) : 0;
    }
  }
}

// O += P V
template <int V>
__device__ __forceinline__ void multiply_values(float (&O)[V / 32][4], Tile<kChunk> weights, Tile<V> v, const Place& at) {
  for (int i = 0; i <= at.row; i += 16) {
    uint32_t a[4];
    load_a(a, weights, at.row, i, at.lane);
    multiply(O, a, v, i, at.column * (V / 4), at.lane);
  }
}

// Each row of O gets mean 0 and variance 1; sweep.rstd gets the factor. A warp computes the mean and the sum of squared
// distances of its quarter of a row, and the four warps of a row share them in `moments`.
template <int V>
__device__ static void normalise(float (&O)[V / 32][4], float2* moments, const Place& at, const Head<Bf16>& head,
                                 const Head<Bf16>::Chunk& chunk) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = 0, squares = 0;
#pragma unroll
    for (int c = 0; c < V / 32; c++) sum += O[c][2 * half] + O[c][2 * half + 1];
    const float mean = warp_sum(sum, 4) / (V / 4);
#pragma unroll
    for (int c = 0; c < V / 32; c++) {
      const float a = O[c][2 * half] - mean, b = O[c][2 * half + 1] - mean;
      squares += a * a + b * b;
    }
    squares = warp_sum(squares, 4);
    if (at.pair == 0) moments[at.column * kChunk + at.rows[half]] = {mean, squares};
  }
  __syncthreads();
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float2* const row = moments + at.rows[half];
    float mean = 0, squares = 0;
    for (int w = 0; w < 4; w++) mean += row[w * kChunk].x / 4;
    for (int w = 0; w < 4; w++) {
      const float2 m = row[w * kChunk];
      squares += m.y + V / 4 * (m.x - mean) * (m.x - mean);
    }
    const float rstd = 1 / sqrtf(squares / V + head.sweep.eps);
#pragma unroll
    for (int c = 0; c < V / 32; c++) {
      O[c][2 * half] = (O[c][2 * half] - mean) * rstd;
      O[c][2 * half + 1] = (O[c][2 * half + 1] - mean) * rstd;
    }
    const int i = at.rows[half];
    if (at.column + at.pair == 0 && i < chunk.rows) head.sweep.rstd[head.token(chunk.step(i)) * head.all.heads + head.h] = rstd;
  }
}

// sweep.dots: the product of each row of O with the same row of sweep.factor. The four warps of a row share parts in `sums`.
template <int V>
__device__ static void multiply_rows(const float (&O)[V / 32][4], float2* sums, const Place& at,
                                     const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float sum = 0;
    if (at.rows[half] < chunk.rows) {
      const Sweeps<Bf16>& all = head.all;
      const int64_t t = chunk.step(at.rows[half]), begin = head.angles(t);
      const Bf16* const with = head.sweep.factor.at(head.token(t), head.h);
#pragma unroll
      for (int c = 0; c < V / 32; c++) {
        const int j = at.column * (V / 4) + at.pair + 8 * c;
        const uint32_t x = head.sweep.o.turned
                               ? turned_pair(with, j, all.turn, all.cosine + begin, all.sine + begin)
                               : vector_at<const uint32_t>(with + j);
        sum += O[c][2 * half] * low_bf16(x) + O[c][2 * half + 1] * high_bf16(x);
      }
    }
    sum = warp_sum(sum, 4);
    if (at.pair == 0) sums[at.column * kChunk + at.rows[half]].x = sum;
  }
  __syncthreads();
  const int i = threadIdx.x;
  if (i >= chunk.rows) return;
  float sum = 0;
  for (int w = 0; w < 4; w++) sum += sums[w * kChunk + i].x;
  head.sweep.dots[head.token(chunk.step(i)) * head.all.heads + head.h] = sum;
}

// Computes a chunk of o in registers and writes it by way of shared memory.
template <bool kSolves, int K, int V, int kStages>
__device__ __forceinline__ void make_output(const MmaMemory<K, V, kStages>& memory, const Head<Bf16>& head,
                                            const Head<Bf16>::Chunk& chunk, int c, const Place& at) {
  const Sweep<Bf16>& sweep = head.sweep;
  const Tile<K> k = memory.k(c), q = kSolves ? k : memory.q(c);
  const Tile<V> v = memory.v(c), out = memory.out(c);
  float P[2][4] = {}, O[V / 32][4] = {};
  multiply_queries(P, O, q, k, memory.state(), at);
  apply_decays<V>(P, O, memory.log_decay(c), sweep, at);
  if constexpr (kSolves) {
    add_tile(O, v, at);
    if (at.column * 16 == at.row) invert(P, memory.beta(c) + at.row, at);
  }
  store_product(memory.weights(), P, at.column * 16, at);
  // P is complete, and all threads have read q and S
  __syncthreads();
  if constexpr (kSolves)
    substitute<V>(O, out, v, memory.weights(), memory.beta(c), at);
  else
    multiply_values(O, memory.weights(), v, at);
  if (sweep.rstd) normalise<V>(O, memory.row_sums(), at, head, chunk);
  if (sweep.dots) multiply_rows<V>(O, memory.row_sums(), at, head, chunk);
  if (!kSolves) store_product(out, O, at.column * (V / 4), at);
  __syncthreads();
  write_rows(out, head, chunk);
}

template <int K, int V, int kStages, bool kSolves>
__global__ void __launch_bounds__(kThreads, 1)
    linear_attention_mma_kernel(const __grid_constant__ Sweeps<Bf16> sweeps) {
  const Head<Bf16> head(sweeps, blockIdx.x);
  if (head.idle(kChunk)) return;
  const MmaMemory<K, V, kStages> memory;
  const Place at;
  StateFragments<K, V> state = {at};
  if (const State first = head.first(); first.data) state.read(first);
  state.round_to(memory.state());
  const int begin = head.first_chunk(), end = head.end_chunk(kChunk);
  if (begin < end) fetch<kSolves>(memory, head, begin);
  // log2 of the factor by which the segment multiplies the state that comes in
  float left = 0;
  for (int c = begin; c < end; c++) {
    const Head<Bf16>::Chunk chunk = head.chunk(c, kChunk);
    turn_inputs<kSolves>(memory, head, chunk, c);
    copy_async_wait<0>();
    // S and the chunk have arrived, and no thread reads the last chunk any more
    __syncthreads();
    if (kStages > 1 && c + 1 < end) fetch<kSolves>(memory, head, c + 1);
    if (!sweeps.collects) make_output<kSolves>(memory, head, chunk, c, at);
    const float* const L = memory.log_decay(c);
    left += L[kChunk - 1];
    state.add_chunk(memory.k(c), memory.v(c), L, head.sweep.in_scale);
    if (kStages == 1) {
      // no thread reads the chunk any more
      __syncthreads();
      if (c + 1 < end) fetch<kSolves>(memory, head, c + 1);
    }
    state.round_to(memory.state());
  }
  head.blank_rest(0, V);
  if (sweeps.collects && threadIdx.x == 0) *head.carried_decay() = exp2f(left);
  if (const State last = head.last(kChunk); last.data) state.write(last, head.last_factor());
}

template <int K, int V>
static bool run(const Sweeps<Bf16>& sweeps) {
  if (sweeps.each[0].K != K || sweeps.each[0].V != V) return false;
  const size_t most = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const auto go = [&]<int kStages>(std::integral_constant<int, kStages>) {
    const LaunchShape shape = {blocks(sweeps.blocks_to_do(), 1), kThreads, MmaMemory<K, V, kStages>::kBytes};
    sweeps.beta ? launch<linear_attention_mma_kernel<K, V, kStages, true>>(shape, sweeps)
                : launch<linear_attention_mma_kernel<K, V, kStages, false>>(shape, sweeps);
  };
  MmaMemory<K, V, 2>::kBytes <= most ? go(std::integral_constant<int, 2>())
                                     : go(std::integral_constant<int, 1>());
  return true;
}

bool mma_can(const Sweeps<Bf16>& sweeps) {
  const auto fits = [](int64_t width) { return width == 64 || width == 128; };
  const RopeTurn& turn = sweeps.turn;
  // RoPE rotates pieces of eight columns, and q and k of a block by the angles of the same head
  const auto may_turn = [&](const auto& x) {
    return !x.turned || (turn.dims % 16 == 0 && (turn.head_step == 0 || x.sharing == 1));
  };
  const auto good = [&](const auto& x) {
    return reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.step % 8 == 0 && may_turn(x);
  };
  return std::all_of(sweeps.each, sweeps.each + sweeps.count, [&](const Sweep<Bf16>& s) {
    return fits(s.K) && fits(s.V) && good(s.q) && good(s.k) && good(s.v) && good(s.o);
  });
}

bool linear_attention_fuses(const LinearAttentionInputs<Bf16>& in) {
  Sweeps<Bf16> sweeps(in);
  const int K = static_cast<int>(in.n.K), V = static_cast<int>(in.n.V);
  sweeps.add({.K = K, .V = V, .o = {}, .q = q_of(in), .k = k_of(in), .v = v_of(in)});
  return mma_can(sweeps);
}

void sweep_mma(const Sweeps<Bf16>& sweeps) {
  run<64, 64>(sweeps) || run<64, 128>(sweeps) || run<128, 64>(sweeps) || run<128, 128>(sweeps);
}

}  // namespace supra::cuda
