#include "kernels/linear_attention.cuh"
#include "kernels/mma.cuh"
#include "kernels/rope.cuh"

// Chunked linear attention on tensor cores. A block keeps S of one head of one document in registers and
// walks once along time, 64 steps a turn; q, k, v are read once and o is written once. In the words of
// linear_attention.simd.cpp, with L_i = log2 of lambda_i:
//
//   P = (Q K^T) * D           P_ij *= scale 2^(L_i - L_j) for j <= i, else 0
//   O = P V + lambda Q S      S' = lambda_n S + (rho K)^T V,  rho_j = 2^(L_n - L_j)
//
// scale stands in rho, or before lambda where the sweep says so. Products take bf16: S goes into shared
// memory rounded, and stays f32 in registers.
//
// RoPE rotates tiles where they arrived, each thread what it copied itself, and O on its way out. The angles are
// those of each token, from rope's own table. The extra reads hit the L2 cache, packed documents and any start
// position need no special case, and results equal the rope op's bit for bit. With angles counted from the chunk's
// first step the state would have to be rotated from chunk to chunk.
//
// The delta rule's solve (delta_attention.cu) has K for Q, and goes on from X = V + lambda K S:
//
//   E = X + P U,  U = diag(beta) E,  P below its diagonal     rows r of 16: E_r = T_r (X_r + P_rs U_s of the rows s before)
//
// with T_r the inverse of 1 - P_rr diag(beta), which four warps make in f32, each of one r, by substitution in registers.
// V becomes U.
//
// 16 warps stand in 4 rows and 4 columns. Of the chunk's 64 x 64 weights P a warp makes 16 x 16, of O its 16
// rows and a quarter of V, of S the rows 16 row + 64m and the same quarter. While a chunk is worked on the
// next one is copied, where the GPU has shared memory for both.

namespace supra::cuda {

constexpr int kChunk = kMmaChunk;
constexpr int kThreads = 512;

// Shared memory. What is copied ahead exists kStages times; chunk c is in number c % kStages.
template <int K, int V, int kStages>
struct MmaMemory {
  // O goes out by way of q's place
  static constexpr int kQuery = std::max(Tile<K>::size(kChunk), Tile<V>::size(kChunk));
  static constexpr int kInput = kQuery + Tile<K>::size(kChunk) + Tile<V>::size(kChunk);
  static constexpr int kElements = kStages * kInput + Tile<V>::size(K) + Tile<kChunk>::size(kChunk);
  static constexpr size_t kBytes =
      kElements * sizeof(Bf16) + 2 * kStages * kChunk * sizeof(float) + 4 * kChunk * sizeof(float2);

  Bf16* const begin = shared_memory<Bf16>();

  __device__ Tile<K> q(int c) const { return {begin + c % kStages * kInput}; }
  __device__ Tile<K> k(int c) const { return {q(c).elements + kQuery}; }
  __device__ Tile<V> v(int c) const { return {k(c).elements + Tile<K>::size(kChunk)}; }
  __device__ Tile<V> state() const { return {begin + kStages * kInput}; }
  __device__ Tile<kChunk> weights() const { return {state().elements + Tile<V>::size(K)}; }
  // What the four columns of warps have to say of each row of O.
  __device__ float2* row_sums() const {
    return reinterpret_cast<float2*>(weights().elements + Tile<kChunk>::size(kChunk));
  }
  __device__ float* log_decay(int c) const {
    return reinterpret_cast<float*>(row_sums() + 4 * kChunk) + c % kStages * kChunk;
  }
  __device__ float* beta(int c) const { return log_decay(c) + kStages * kChunk; }
};

// Steps past the document's end come as zeros.
template <int kColumns>
__device__ static void copy_rows(Tile<kColumns> to, const Operand<const Bf16>& from, const Head<Bf16>& head,
                                 const Head<Bf16>::Chunk& chunk) {
  const Pieces<kColumns> at(head.all.turn, from.turned);
  if (at.row >= kChunk) return;
  const bool live = at.row < chunk.rows;
  const Bf16* const row = from.at(head.token(chunk.step(live ? at.row : 0)), head.h);
  copy_async_16(to.at(at.row, at.first), row + at.first, !live);
  copy_async_16(to.at(at.row, at.second), row + at.second, !live);
}

// The angles of the thread's pieces of a tile, for the row's step.
template <int kColumns>
__device__ static Angles angles(const Pieces<kColumns>& at, const Head<Bf16>& head,
                                const Head<Bf16>::Chunk& chunk) {
  const int64_t begin = head.angles(chunk.step(at.row < chunk.rows ? at.row : 0));
  return {head.all.turn, at, head.all.cosine + begin, head.all.sine + begin};
}

// Turns the tiles where they are, each thread what it copied. While the angles are on their way so are copies.
template <class... Tiles>
__device__ static void turn_when_there(const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk,
                                       const Tiles&... tiles) {
  const Pieces<std::common_type_t<Tiles...>::kWidth> at(head.all.turn, true);
  const Angles by = angles(at, head, chunk);
  copy_async_wait<0>();
  const auto turn = [&](const auto& tile) {
    float a[8], b[8];
    load(a, tile.at(at.row, at.first)), load(b, tile.at(at.row, at.second));
    by.turn(a, b, head.all.turn, at, 1);
    store(tile.at(at.row, at.first), a), store(tile.at(at.row, at.second), b);
  };
  if (at.row < chunk.rows) (turn(tiles), ...);
}

// O goes out in whole rows.
template <int kColumns>
__device__ static void write_rows(Tile<kColumns> from, const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk) {
  const Sweep<Bf16>& sweep = head.sweep;
  const Pieces<kColumns> at(head.all.turn, sweep.o.turned);
  if (at.row >= chunk.rows) return;
  float a[8], b[8];
  load(a, from.at(at.row, at.first)), load(b, from.at(at.row, at.second));
  if (sweep.o.turned) angles(at, head, chunk).turn(a, b, head.all.turn, at, -1);
  const int64_t token = head.token(chunk.step(at.row));
  if (sweep.masked) {
    float x[8], y[8];
    const Bf16* const row = sweep.factor.at(token, head.h);
    load(x, row + at.first), load(y, row + at.second);
    for (int e = 0; e < 8; e++) a[e] *= x[e] > 0 ? 1 : 0, b[e] *= y[e] > 0 ? 1 : 0;
  }
  Bf16* const to = sweep.o.at(token, head.h);
  store(to + at.first, a), store(to + at.second, b);
}

// L: sums of log2 g from the chunk's first step to each, by the first warp. Steps past the end leave S as it
// is.
__device__ static void sum_decays(float* L, const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk) {
  const int lane = threadIdx.x;
  float before = 0;
  for (int half = 0; half < 2; half++) {
    const int i = half * 32 + lane;
    float sum = i < chunk.rows ? head.log_decay_at(chunk.step(i)) * 1.4426950408889634f : 0;
    for (int by = 1; by < 32; by *= 2) {
      const float left = __shfl_up_sync(kWholeWarp, sum, by);
      if (lane >= by) sum += left;
    }
    sum += before;
    L[i] = sum;
    before = __shfl_sync(kWholeWarp, sum, 31);
  }
}

template <bool kSolves, int K, int V, int kStages>
__device__ static void fetch(const MmaMemory<K, V, kStages>& memory, const Head<Bf16>& head, int c) {
  const Head<Bf16>::Chunk chunk = head.chunk(c, kChunk);
  if (!kSolves && !head.all.collects) copy_rows(memory.q(c), head.sweep.q, head, chunk);
  copy_rows(memory.k(c), head.sweep.k, head, chunk);
  copy_rows(memory.v(c), head.sweep.v, head, chunk);
  copy_async_commit();
  if (threadIdx.x < 32) sum_decays(memory.log_decay(c), head, chunk);
  if (const int i = threadIdx.x; kSolves && i < kChunk)
    memory.beta(c)[i] = i < chunk.rows ? head.all.beta[head.token(chunk.step(i)) * head.all.heads + head.h] : 0;
}

// A pair of bf16 times two factors
__device__ static uint32_t scaled(uint32_t pair, float low, float high) {
  return pack_bf16(low_bf16(pair) * low, high_bf16(pair) * high);
}

// What a thread holds of the block's matrices: of every tile two pairs, in two rows, and from column `pair`
// on.
struct Place {
  int lane = threadIdx.x % 32, row = threadIdx.x / 128 * 16, column = threadIdx.x / 32 % 4;
  int rows[2] = {row + lane / 4, row + lane / 4 + 8}, pair = lane % 4 * 2;
};

// The rows of O get mean 0 and variance 1; rstd[half] is what they were divided by. Each warp knows mean and
// squared distances of its quarter of a row.
template <int V>
__device__ static void normalise(float (&O)[V / 32][4], float (&rstd)[2], float2* moments, const Place& at,
                                 float eps) {
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
    rstd[half] = 1 / sqrtf(squares / V + eps);
#pragma unroll
    for (int c = 0; c < V / 32; c++) {
      O[c][2 * half] = (O[c][2 * half] - mean) * rstd[half];
      O[c][2 * half + 1] = (O[c][2 * half + 1] - mean) * rstd[half];
    }
  }
}

// The products of O's rows with those of sweep.factor.
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

// Of P, 16 x 16 below its diagonal, the inverse of 1 - P diag(beta) less 1.
__device__ static void invert(float (&P)[2][4], const float* beta, const Place& at) {
  float T[2][4];
#pragma unroll
  for (int e = 0; e < 8; e++) {
    const int half = e / 2 % 2, j = e / 4 * 8 + at.pair + e % 2;
    T[e / 4][e % 4] = j == at.lane / 4 + 8 * half ? 1 : 0;
    P[e / 4][e % 4] *= beta[j];
  }
  // Once row i is final, the rows below take their part of it. The loop in the middle stays one: side by side its steps would
  // want more registers than there are.
#pragma unroll
  for (int upper = 0; upper < 2; upper++) {
#pragma unroll 1
    for (int i = 0; i < 8; i += 2) {
#pragma unroll
      for (int odd = 0; odd < 2; odd++) {
        float row[4], factor[2];
        for (int e = 0; e < 4; e++) row[e] = __shfl_sync(kWholeWarp, T[e / 2][upper * 2 + e % 2], (i + odd) * 4 + at.lane % 4);
        for (int half = 0; half < 2; half++) factor[half] = __shfl_sync(kWholeWarp, P[upper][2 * half + odd], at.lane / 4 * 4 + i / 2);
        for (int e = 0; e < 8; e++) T[e / 4][e % 4] += factor[e / 2 % 2] * row[e / 4 * 2 + e % 2];
      }
    }
  }
#pragma unroll
  for (int e = 0; e < 8; e++) P[e / 4][e % 4] = T[e / 4][e % 4] - (e / 4 * 8 + at.pair + e % 2 == at.lane / 4 + 8 * (e / 2 % 2));
}

// O, X before, becomes E, in shared memory too, and v becomes U.
template <int V>
__device__ static void substitute(float (&O)[V / 32][4], Tile<V> out, Tile<V> v, Tile<kChunk> weights, const float* beta, const Place& at) {
  const int first_column = at.column * (V / 4);
  const auto publish = [&](Tile<V> to, float low, float high) {
#pragma unroll
    for (int e = 0; e < V / 16; e++) {
      const int n = e / 2, half = e % 2;
      const float factor = half ? high : low;
      vector_at<uint32_t>(to.at(at.rows[half], first_column + at.pair + 8 * n)) =
          pack_bf16(factor * O[n][2 * half], factor * O[n][2 * half + 1]);
    }
    __syncwarp();
  };
  for (int r = 0; r < kChunk; r += 16) {
    uint32_t a[4];
    if (at.row >= r) load_a(a, weights, at.row, r, at.lane);
    if (at.row == r) {
      publish(out, 1, 1);
      multiply(O, a, out, r, first_column, at.lane);
      // the warp has read X
      __syncwarp();
      publish(out, 1, 1);
      publish(v, beta[at.rows[0]], beta[at.rows[1]]);
    }
    __syncthreads();
    if (at.row > r) multiply(O, a, v, r, first_column, at.lane);
  }
}

template <int K, int V, int kStages, bool kSolves>
__global__ void __launch_bounds__(kThreads, 1)
    linear_attention_mma_kernel(const __grid_constant__ Sweeps<Bf16> sweeps) {
  // tiles of 16 rows of S, and of 8 columns of O and S, that a warp holds
  constexpr int kRows = K / 64, kColumns = V / 32;
  const Head<Bf16> head(sweeps, blockIdx.x);
  const Sweep<Bf16>& sweep = head.sweep;
  if (head.idle(kChunk)) return;
  const MmaMemory<K, V, kStages> memory;
  const Place at;
  const int lane = at.lane, row = at.row, column = at.column, pair = at.pair, first_column = column * (V / 4);

  float S[kRows][kColumns][4] = {};
  // f(two neighbours of S, their row, their first column) for all that the thread holds
  const auto each_pair = [&](auto f) {
#pragma unroll
    for (int i = 0; i < kRows * kColumns * 2; i++) {
      const int m = i / (kColumns * 2), c = i / 2 % kColumns, half = i % 2;
      f(S[m][c] + 2 * half, m * 64 + at.rows[half], first_column + 8 * c + pair);
    }
  };
  const auto publish = [&](const float* s, int r, int c) {
    vector_at<uint32_t>(memory.state().at(r, c)) = pack_bf16(s[0], s[1]);
  };
  if (const State first = head.first(); first.data) {
    each_pair([&](float* s, int r, int c) { s[0] = *first.at(r, c), s[1] = *first.at(r, c + 1); });
  }
  each_pair(publish);
  const int begin = head.first_chunk(), end = head.end_chunk(kChunk);
  if (begin < end) fetch<kSolves>(memory, head, begin);
  // log2 of what the segment leaves of the state that came into it
  float left = 0;
  for (int c = begin; c < end; c++) {
    const Head<Bf16>::Chunk chunk = head.chunk(c, kChunk);
    const Tile<K> k = memory.k(c), q = kSolves ? k : memory.q(c);
    const Tile<V> v = memory.v(c);
    if (sweep.v.turned)
      turn_when_there(head, chunk, v);
    else if (sweep.k.turned)
      sweeps.collects ? turn_when_there(head, chunk, k) : turn_when_there(head, chunk, q, k);
    copy_async_wait<0>();
    // S and the chunk are there, and nobody reads the last one any more
    __syncthreads();
    if (kStages > 1 && c + 1 < end) fetch<kSolves>(memory, head, c + 1);
    const float* const L = memory.log_decay(c);

    if (!sweeps.collects) {
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
        const int i = at.rows[half];
        const float L_i = L[i], lambda = sweep.out_scale * exp2f(L_i);
#pragma unroll
        for (int n = 0; n < kColumns; n++) O[n][2 * half] *= lambda, O[n][2 * half + 1] *= lambda;
        const float scale = sweep.in_scale * sweep.out_scale;
#pragma unroll
        for (int n = 0; n < 2; n++) {
          const int j = column * 16 + n * 8 + pair;
          P[n][2 * half] *= j + sweep.strict <= i ? scale * exp2f(L_i - L[j]) : 0;
          P[n][2 * half + 1] *= j + sweep.strict < i ? scale * exp2f(L_i - L[j + 1]) : 0;
        }
        if constexpr (kSolves) {
#pragma unroll
          for (int n = 0; n < kColumns; n++) {
            const uint32_t x = vector_at<uint32_t>(v.at(i, first_column + pair + 8 * n));
            O[n][2 * half] += low_bf16(x), O[n][2 * half + 1] += high_bf16(x);
          }
        }
      }
      if (kSolves && column * 16 == row) invert(P, memory.beta(c) + row, at);
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int n = e / 2, half = e % 2;
        vector_at<uint32_t>(memory.weights().at(at.rows[half], column * 16 + n * 8 + pair)) = pack_bf16(P[n][2 * half], P[n][2 * half + 1]);
      }
      // P is whole, and all have read S
      __syncthreads();

      // nobody has needed q since P was whole
      const Tile<V> out = {memory.q(c).elements};
      if constexpr (kSolves) {
        substitute<V>(O, out, v, memory.weights(), memory.beta(c), at);
      } else {
        for (int i = 0; i <= row; i += 16) {
          uint32_t a[4];
          load_a(a, memory.weights(), row, i, lane);
          multiply(O, a, v, i, first_column, lane);
        }
      }
      float rstd[2] = {};
      if (sweep.rstd) normalise<V>(O, rstd, memory.row_sums(), at, sweep.eps);
      if (sweep.dots) multiply_rows<V>(O, memory.row_sums(), at, head, chunk);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int i = at.rows[half];
#pragma unroll
        for (int n = 0; n < kColumns && !kSolves; n++) {
          vector_at<uint32_t>(out.at(i, first_column + pair + 8 * n)) =
              pack_bf16(O[n][2 * half], O[n][2 * half + 1]);
        }
        if (sweep.rstd && column + pair == 0 && i < chunk.rows)
          sweep.rstd[head.token(chunk.step(i)) * sweeps.heads + head.h] = rstd[half];
      }
      __syncthreads();
      write_rows(out, head, chunk);
    }
    const float L_end = L[kChunk - 1], lambda = exp2f(L_end);
    left += L_end;
    each_pair([&](float* s, int, int) { s[0] *= lambda, s[1] *= lambda; });
#pragma unroll
    for (int i = 0; i < kChunk; i += 16) {
      float rho[4];
      for (int e = 0; e < 4; e++) rho[e] = sweep.in_scale * exp2f(L_end - L[i + pair + e % 2 + e / 2 * 8]);
      uint32_t a[kRows][4], b[4];
#pragma unroll
      for (int m = 0; m < kRows; m++) {
        load_a_of_transposed(a[m], k, m * 64 + row, i, lane);
        for (int e = 0; e < 4; e++) a[m][e] = scaled(a[m][e], rho[e / 2 * 2], rho[e / 2 * 2 + 1]);
      }
#pragma unroll
      for (int n = 0; n < kColumns; n += 2) {
        load_b(b, v, i, first_column + n * 8, lane);
#pragma unroll
        for (int m = 0; m < kRows; m++) {
          mma(S[m][n], a[m], b[0], b[1]);
          mma(S[m][n + 1], a[m], b[2], b[3]);
        }
      }
    }
    if (kStages == 1) {
      // all are done with the chunk
      __syncthreads();
      if (c + 1 < end) fetch<kSolves>(memory, head, c + 1);
    }
    each_pair(publish);
  }
  head.blank_rest(0, V);
  if (sweeps.collects && threadIdx.x == 0) *head.carried_decay() = exp2f(left);
  const State last = head.last(kChunk);
  if (!last.data) return;
  const float factor = head.last_factor();
  each_pair([&](const float* s, int r, int c) {
    *last.at(r, c) = factor * s[0], *last.at(r, c + 1) = factor * s[1];
  });
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
  // in pieces of eight columns; one head's angles for all that a block turns
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
  sweeps.add({.K = static_cast<int>(in.n.K), .V = static_cast<int>(in.n.V), .o = {}, .q = q_of(in), .k = k_of(in), .v = v_of(in)});
  return mma_can(sweeps);
}

void sweep_mma(const Sweeps<Bf16>& sweeps) {
  run<64, 64>(sweeps) || run<64, 128>(sweeps) || run<128, 64>(sweeps) || run<128, 128>(sweeps);
}

}  // namespace supra::cuda
