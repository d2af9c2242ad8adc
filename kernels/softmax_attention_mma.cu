#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "kernels/mma.cuh"
#include "kernels/softmax_attention.cuh"

// Softmax attention on tensor cores: bf16, K = V = D of 64 or 128, in the form of FlashAttention-2 (arXiv 2307.08691).
//   q, o (B,T,H,D)  k, v (B,S,G,D)  lse (B,T,H); formulas: softmax_attention.cu
//
// A block keeps 128 rows of one head in shared memory, 16 for each of its 8 warps, and walks along their partners a tile at a
// time. While a tile is worked on, the next one is copied. Scores and their gradients stay in the registers of a warp: two
// fragments C of a product are a fragment A of the next one.
//
//   forward      rows: queries, partners: keys.     P = Q K^T,  O += e^P V
//   dq           rows: queries, partners: keys.     P = Q K^T,  dP = dO V^T,  dQ += dS K
//   dk, dv       rows: keys, partners: queries.     P = K Q^T,  dP = V dO^T,  dV += P dO,  dK += dS Q
//
// The forward takes the sinks and the window (softmax_attention.cuh) in one kernel; in backward each has a kernel of its own.
// Scores and lse carry a factor of log2 e, because exponentials are powers of 2. Tensor cores bound the kernels if T is long:
// every tile of partners is used by 128 rows. Registers are scarce: sums and scores of 16 rows fill most of the 255 of a
// thread.

namespace supra::cuda {

constexpr int kRows = 128, kThreads = 2 * kRows, kKeys = 64;

// Starts the copy of rows [begin, end), and of zeros behind them.
template <int kTileRows, int D>
__device__ static void copy_rows(Tile<D> to, const Bf16* from, int64_t step, int begin, int end) {
  copy_rows<kTileRows, kThreads>(to, from + begin * step, step, end - begin);
}

// The layout of shared memory: kHeld tiles of the block's rows, and two tiles of partners. These exist twice: one is worked on
// while the other is copied.
template <int D, int kHeld, int kOthers>
struct Memory {
  static constexpr int kHeldSize = Tile<D>::size(kRows), kOtherSize = Tile<D>::size(kOthers);
  static constexpr size_t kBytes = (kHeld * kHeldSize + 4 * kOtherSize) * sizeof(Bf16);

  Bf16* const begin = shared_memory<Bf16>();

  __device__ Tile<D> rows(int which) const { return {begin + which * kHeldSize}; }
  __device__ Tile<D> others(int turn, int which) const {
    return {begin + kHeld * kHeldSize + (turn % 2 * 2 + which) * kOtherSize};
  }
  __device__ float* end() const { return reinterpret_cast<float*>(others(0, 4).elements); }
};

// c += rows X^T, for the warp's rows
template <int kTiles, int D>
__device__ static void multiply_rows(float (&c)[kTiles][4], Tile<D> rows, int row, Tile<D> x, int lane) {
#pragma unroll
  for (int i = 0; i < D; i += 16) {
    uint32_t a[4];
    load_a(a, rows, row, i, lane);
    multiply_by_transposed(c, a, x, i, lane);
  }
}

// sums += c X
template <int kTiles, int D>
__device__ static void add_product(float (&sums)[D / 8][4], const float (&c)[kTiles][4], Tile<D> x,
                                   int lane) {
#pragma unroll
  for (int i = 0; i < kTiles; i += 2) {
    uint32_t a[4];
    to_a(a, c[i], c[i + 1]);
    multiply(sums, a, x, i * 8, 0, lane);
  }
}

// f(element, its column less the thread's first) for the thread's elements of row `half`
template <int kTiles, class F>
__device__ static void each_of_row(float (&c)[kTiles][4], int half, F f) {
#pragma unroll
  for (int i = 0; i < 2 * kTiles; i++) f(c[i / 2][2 * half + i % 2], i / 2 * 8 + i % 2);
}

// Writes the thread's part of a row, times `factor`. row: the place of the first element that the thread holds.
template <int kTiles>
__device__ static void store_row(Bf16* row, const float (&c)[kTiles][4], int half, float factor) {
#pragma unroll
  for (int i = 0; i < kTiles; i++) {
    vector_at<uint32_t>(row + 8 * i) = pack_bf16(c[i][2 * half] * factor, c[i][2 * half + 1] * factor);
  }
}

// The queries of a block, and its walk along the keys that they see.
template <int D, int kHeld>
struct QueryBlock {
  Memory<D, kHeld, kKeys> memory;
  const unsigned batch_row, h;
  // blocks of the last queries, which see the most keys, start first
  const int begin, end;
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16, pair = lane % 4 * 2;
  const int queries[2] = {begin + row + lane / 4, begin + row + lane / 4 + 8};

  __device__ explicit QueryBlock(const SoftmaxAttentionSizes& n)
      : batch_row(blockIdx.x / static_cast<unsigned>(n.H)),
        h(blockIdx.x % static_cast<unsigned>(n.H)),
        begin((gridDim.y - 1 - blockIdx.y) * kRows),
        end(std::min(begin + kRows, static_cast<int>(n.T))) {}

  // The index of query t in (B,T,H).
  __device__ int64_t at(const SoftmaxAttentionSizes& n, int t) const { return (batch_row * n.T + t) * n.H + h; }

  // Copies the queries of this part to rows(0). For each tile of keys that a query of the warp sees, calls f(the sight, the
  // first key, whether all queries of the warp see all keys, the tile of k, the tile of v). Rows whose copy was started before
  // have arrived then too.
  template <Keys part, class F>
  __device__ void walk(const SoftmaxAttentionInputs<Bf16>& in, F f) const {
    const SoftmaxHead<Bf16, part> head(in, batch_row, h);
    const Sight<part>& sight = head.sight;
    const int first = sight.from(begin), keys = sight.keys(end - 1);
    if (first >= keys) return;
    // no warp reads the tiles of the last part any more
    if (part == Keys::window) __syncthreads();
    copy_rows<kRows>(memory.rows(0), head.q, in.n.H * D, begin, end);
    const auto fetch = [&](int turn, int key) {
      copy_rows<kKeys>(memory.others(turn, 0), head.k, in.n.G * D, key, keys);
      copy_rows<kKeys>(memory.others(turn, 1), head.v, in.n.G * D, key, keys);
      copy_async_commit();
    };
    fetch(0, first);
    for (int key = first, turn = 0, next; key < keys; key = next, turn++) {
      copy_async_wait<0>();
      // the tile has arrived, and no warp reads the last one any more
      __syncthreads();
      next = sight.next(begin, key + kKeys);
      if (next < keys) fetch(turn + 1, next);
      if (sight.sees_none(begin + row, 16, key, kKeys)) continue;
      f(sight, key, sight.sees_all(begin + row, 16, key, kKeys), memory.others(turn, 0), memory.others(turn, 1));
    }
  }
};

template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_attention_fwd_mma_kernel(Bf16* o, float* lse, SoftmaxAttentionInputs<Bf16> in) {
  const QueryBlock<D, 1> block(in.n);
  const float scale = in.n.scale * kLog2e;
  // finite, because a query may see none of the first keys
  float O[D / 8][4] = {}, top[] = {-1e30f, -1e30f}, sum[2] = {};

  each_part(in.n, [&]<Keys part>(std::integral_constant<Keys, part>) {
    block.template walk<part>(in, [&](const Sight<part>& sight, int key, bool whole, Tile<D> k, Tile<D> v) {
      float P[kKeys / 8][4] = {};
      multiply_rows(P, block.memory.rows(0), block.row, k, block.lane);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float highest = top[half], total = 0;
        each_of_row(P, half, [&](float& p, int column) {
          const bool seen = whole || sight.sees(block.queries[half], key + block.pair + column);
          p = seen ? p * scale : -INFINITY;
          highest = fmaxf(highest, p);
        });
        highest = warp_max(highest, 4);
        each_of_row(P, half, [&](float& p, int) { total += p = exp2f(p - highest); });
        const float keep = exp2f(top[half] - highest);
        top[half] = highest, sum[half] = keep * sum[half] + total;
        each_of_row(O, half, [&](float& x, int) { x *= keep; });
      }
      add_product<kKeys / 8, D>(O, P, v, block.lane);
    });
  });
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const float total = warp_sum(sum[half], 4);
    const int t = block.queries[half];
    if (t >= block.end) continue;
    store_row(o + block.at(in.n, t) * D + block.pair, O, half, 1 / total);
    if (block.pair == 0) lse[block.at(in.n, t)] = (top[half] + log2f(total)) / kLog2e;
  }
}

// dq from one part of the keys: both parts in one kernel would need too many registers.
template <int D, Keys part>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_attention_dq_mma_kernel(SoftmaxAttentionGradients<Bf16> grads, SoftmaxAttentionInputs<Bf16> in) {
  const QueryBlock<D, 2> block(in.n);
  const float scale = in.n.scale * kLog2e;
  float dQ[D / 8][4] = {}, lse[2] = {}, delta[2] = {};
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int t = block.queries[half];
    if (t >= block.end) continue;
    lse[half] = grads.lse[block.at(in.n, t)] * kLog2e;
    delta[half] = grads.delta[block.at(in.n, t)];
  }

  copy_rows<kRows>(block.memory.rows(1), grads.d_o + block.at(in.n, 0) * D, in.n.H * D, block.begin, block.end);
  block.template walk<part>(in, [&](const Sight<part>& sight, int key, bool whole, Tile<D> k, Tile<D> v) {
    float P[kKeys / 8][4] = {}, dP[kKeys / 8][4] = {};
    multiply_rows(P, block.memory.rows(0), block.row, k, block.lane);
    multiply_rows(dP, block.memory.rows(1), block.row, v, block.lane);
#pragma unroll
    for (int i = 0; i < kKeys / 8 * 4; i++) {
      const int half = i / 2 % 2;
      const bool seen = whole || sight.sees(block.queries[half], key + i / 4 * 8 + block.pair + i % 2);
      float& dp = dP[i / 4][i % 4];
      dp = seen ? exp2f(P[i / 4][i % 4] * scale - lse[half]) * (dp - delta[half]) : 0;
    }
    add_product<kKeys / 8, D>(dQ, dP, k, block.lane);
  });
  Bf16* const dq = part == Keys::sinks && grads.dq_sinks ? grads.dq_sinks : grads.dq;
  const bool adds = part == Keys::window && in.n.sinks > 0 && !grads.dq_sinks;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int t = block.queries[half];
    if (t >= block.end) continue;
    Bf16* const to = dq + block.at(in.n, t) * D + block.pair;
    each_of_row(dQ, half, [&](float& x, int column) { x = x * in.n.scale + (adds ? to_float(to[column]) : 0); });
    store_row(to, dQ, half, 1);
  }
}

// dk and dv of one part of the keys. The gradient of a sink comes from the sinks' part alone: the window's kernel writes every
// key, and the sinks' kernel then overwrites the sinks.
template <int D, Keys part>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_attention_dkdv_mma_kernel(SoftmaxAttentionGradients<Bf16> grads,
                                      SoftmaxAttentionInputs<Bf16> in) {
  // as many queries as the registers hold beside dK and dV
  constexpr int kQueries = 4096 / D;
  const SoftmaxAttentionSizes& n = in.n;
  const int64_t batch_row = blockIdx.x / n.G, h = blockIdx.x % n.G * (n.H / n.G);
  const int family = static_cast<int>(n.H / n.G), S = static_cast<int>(n.S);
  const SoftmaxHead<Bf16, part> first(in, batch_row, h);
  const Sight<part>& sight = first.sight;
  const Memory<D, 2, kQueries> memory;
  const int begin = blockIdx.y * kRows, end = std::min(begin + kRows, S);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16, pair = lane % 4 * 2;
  const int keys[] = {begin + row + lane / 4, begin + row + lane / 4 + 8};
  const int t_begin = sight.begin_of(begin), t_end = sight.end_of(end - 1);
  // the tiles of queries of one head after another
  const int tiles = (t_end - t_begin + kQueries - 1) / kQueries;
  // lse and delta of a tile's queries
  const auto statistics = [&](int turn) { return memory.end() + turn % 2 * 2 * kQueries; };
  const auto fetch = [&](int turn) {
    const SoftmaxHead<Bf16, part> head(in, batch_row, h + turn / tiles);
    const int t = t_begin + turn % tiles * kQueries;
    copy_rows<kQueries>(memory.others(turn, 0), head.q, head.q_step, t, t_end);
    copy_rows<kQueries>(memory.others(turn, 1), grads.d_o + head.o, head.o_step, t, t_end);
    copy_async_commit();
    const int i = threadIdx.x;
    if (i >= kQueries) return;
    const bool live = t + i < t_end;
    const int64_t at = head.lse + (live ? t + i : 0) * n.H;
    statistics(turn)[i] = live ? grads.lse[at] * kLog2e : INFINITY;
    statistics(turn)[kQueries + i] = live ? grads.delta[at] : 0;
  };
  const float scale = n.scale * kLog2e;
  float dK[D / 8][4] = {}, dV[D / 8][4] = {};

  if (tiles > 0) {
    copy_rows<kRows>(memory.rows(0), first.k, first.k_step, begin, end);
    copy_rows<kRows>(memory.rows(1), first.v, first.v_step, begin, end);
    fetch(0);
  }
  for (int turn = 0; turn < family * tiles; turn++) {
    copy_async_wait<0>();
    __syncthreads();
    if (turn + 1 < family * tiles) fetch(turn + 1);
    const int t = t_begin + turn % tiles * kQueries;
    if (sight.sees_none(t, kQueries, begin + row, 16)) continue;
    const Tile<D> q = memory.others(turn, 0), d_o = memory.others(turn, 1);
    const float *const lse = statistics(turn), *const delta = lse + kQueries;
    float P[kQueries / 8][4] = {}, dP[kQueries / 8][4] = {};
    multiply_rows(P, memory.rows(0), row, q, lane);
    multiply_rows(dP, memory.rows(1), row, d_o, lane);
    const bool whole = sight.sees_all(t, kQueries, begin + row, 16);
#pragma unroll
    for (int i = 0; i < kQueries / 8 * 4; i++) {
      const int query = i / 4 * 8 + pair + i % 2;
      float &p = P[i / 4][i % 4], &dp = dP[i / 4][i % 4];
      const bool seen = whole || sight.sees(t + query, keys[i / 2 % 2]);
      p = seen ? exp2f(p * scale - lse[query]) : 0;
      dp = seen ? p * (dp - delta[query]) : 0;
    }
    add_product<kQueries / 8, D>(dV, P, d_o, lane);
    add_product<kQueries / 8, D>(dK, dP, q, lane);
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const int64_t s = keys[half];
    if (s >= end || (part == Keys::sinks && !sight.is_seen(s))) continue;
    store_row(grads.dk + first.k_at + s * first.k_step + pair, dK, half, n.scale);
    store_row(grads.dv + first.v_at + s * first.v_step + pair, dV, half, 1);
  }
}

static bool aligned(std::initializer_list<const Bf16*> tensors) {
  for (const Bf16* p : tensors) {
    if (reinterpret_cast<uintptr_t>(p) % 16) return false;
  }
  return true;
}

// f(constant D) if the heads have such a size and scores have no cap. Returns what f returns, otherwise false.
template <class F>
static bool by_dim(const SoftmaxAttentionSizes& n, F f) {
  if (n.cap > 0 || n.K != n.V || (n.K != 64 && n.K != 128)) return false;
  return n.K == 64 ? f.template operator()<64>() : f.template operator()<128>();
}

// False for heads of 128 on cards with 99 KB.
static bool has_shared(size_t bytes) {
  return static_cast<int64_t>(bytes) <= attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

bool softmax_attention_fwd_mma(Bf16* o, float* lse, const SoftmaxAttentionInputs<Bf16>& in) {
  const SoftmaxAttentionSizes& n = in.n;
  return aligned({o, in.q, in.q_sinks, in.k, in.v}) && by_dim(n, [&]<int D>() {
           constexpr size_t kBytes = Memory<D, 1, kKeys>::kBytes;
           if (!has_shared(kBytes)) return false;
           launch<softmax_attention_fwd_mma_kernel<D>>(
               {{blocks(n.B * n.H, 1), blocks(n.T, kRows)}, kThreads, kBytes}, o, lse, in);
           return true;
         });
}

bool softmax_attention_bwd_mma(const SoftmaxAttentionGradients<Bf16>& grads,
                               const SoftmaxAttentionInputs<Bf16>& in) {
  const SoftmaxAttentionSizes& n = in.n;
  return aligned({grads.dq, grads.dq_sinks, grads.dk, grads.dv, grads.d_o, in.q, in.q_sinks, in.k, in.v}) &&
         by_dim(n, [&]<int D>() {
           constexpr int kQueries = 4096 / D;
           constexpr size_t kBytes = Memory<D, 2, kKeys>::kBytes,
                            kBytesOfKeys = Memory<D, 2, kQueries>::kBytes + 4 * kQueries * sizeof(float);
           if (!has_shared(std::max(kBytes, kBytesOfKeys))) return false;
           const LaunchShape of_queries = {{blocks(n.B * n.H, 1), blocks(n.T, kRows)}, kThreads, kBytes};
           if (n.sinks > 0) launch<softmax_attention_dq_mma_kernel<D, Keys::sinks>>(of_queries, grads, in);
           launch<softmax_attention_dq_mma_kernel<D, Keys::window>>(of_queries, grads, in);
           const LaunchShape of_keys = {{blocks(n.B * n.G, 1), blocks(n.S, kRows)}, kThreads, kBytesOfKeys};
           launch<softmax_attention_dkdv_mma_kernel<D, Keys::window>>(of_keys, grads, in);
           if (n.sinks > 0) launch<softmax_attention_dkdv_mma_kernel<D, Keys::sinks>>(of_keys, grads, in);
           return true;
         });
}

}  // namespace supra::cuda
