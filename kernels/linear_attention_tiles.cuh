#pragma once
#include "kernels/linear_attention.cuh"
#include "kernels/mma.cuh"
#include "kernels/rope.cuh"

// What the kernel of linear_attention_mma.cu moves: the layout of its shared memory, how a chunk of q, k, v and its decays gets
// there, and how o leaves. A thread moves two pieces of 16 bytes of one row of a tile, and neighbours move neighbouring pieces,
// so reads and writes of global memory are coalesced. Inputs arrive by asynchronous copies; rows behind the document's end
// arrive as zeros.
//
// RoPE rotates q and k in shared memory: each thread rotates the pieces that it copied itself, so no barrier is needed. O is
// rotated on its way out. The angles are those of each token, from the table of the op rope. These extra reads hit the L2
// cache, packed documents and any start position need no special case, and results equal those of the op rope bit for bit. With
// angles counted from the chunk's first step the state would have to be rotated from chunk to chunk.

namespace supra::cuda {

constexpr int kChunk = kMmaChunk;
constexpr int kThreads = 512;

// The layout of shared memory. What is copied ahead exists kStages times; chunk c uses number c % kStages.
template <int K, int V, int kStages>
struct MmaMemory {
  // o leaves through q's tile
  static constexpr int kQuery = std::max(Tile<K>::size(kChunk), Tile<V>::size(kChunk));
  static constexpr int kInput = kQuery + Tile<K>::size(kChunk) + Tile<V>::size(kChunk);
  static constexpr int kElements = kStages * kInput + Tile<V>::size(K) + Tile<kChunk>::size(kChunk);
  static constexpr size_t kBytes =
      kElements * sizeof(Bf16) + 2 * kStages * kChunk * sizeof(float) + 4 * kChunk * sizeof(float2);

  Bf16* const begin = shared_memory<Bf16>();

  __device__ Tile<K> q(int c) const { return {begin + c % kStages * kInput}; }
  __device__ Tile<K> k(int c) const { return {q(c).elements + kQuery}; }
  __device__ Tile<V> v(int c) const { return {k(c).elements + Tile<K>::size(kChunk)}; }
  __device__ Tile<V> out(int c) const { return {q(c).elements}; }
  __device__ Tile<V> state() const { return {begin + kStages * kInput}; }
  __device__ Tile<kChunk> weights() const { return {state().elements + Tile<V>::size(K)}; }
  // Two numbers for each row of O, from each of the four columns of warps.
  __device__ float2* row_sums() const {
    return reinterpret_cast<float2*>(weights().elements + Tile<kChunk>::size(kChunk));
  }
  __device__ float* log_decay(int c) const {
    return reinterpret_cast<float*>(row_sums() + 4 * kChunk) + c % kStages * kChunk;
  }
  __device__ float* beta(int c) const { return log_decay(c) + kStages * kChunk; }
};

// Starts the copy of a chunk's rows to a tile.
template <int kColumns>
__device__ void copy_rows(Tile<kColumns> to, const Operand<const Bf16>& from, const Head<Bf16>& head,
                          const Head<Bf16>::Chunk& chunk) {
  const Pieces<kColumns> at(head.all.turn, from.turned);
  if (at.row >= kChunk) return;
  const bool live = at.row < chunk.rows;
  const Bf16* const row = from.at(head.token(chunk.step(live ? at.row : 0)), head.h);
  copy_async_16(to.at(at.row, at.first), row + at.first, !live);
  copy_async_16(to.at(at.row, at.second), row + at.second, !live);
}

// L: the sums of log2 g from the chunk's first step to each, by the first warp. Rows behind the end leave S as it is.
__device__ inline void sum_decays(float* L, const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk) {
  float before = 0;
  for (int half = 0; half < 2; half++) {
    const int i = half * 32 + threadIdx.x;
    const float x = i < chunk.rows ? head.log_decay_at(chunk.step(i)) * kLog2e : 0;
    const float sum = warp_prefix_sum(x) + before;
    L[i] = sum;
    before = __shfl_sync(kWholeWarp, sum, 31);
  }
}

// Starts the copy of chunk c, and sums its decays.
template <bool kSolves, int K, int V, int kStages>
__device__ void fetch(const MmaMemory<K, V, kStages>& memory, const Head<Bf16>& head, int c) {
  const Head<Bf16>::Chunk chunk = head.chunk(c, kChunk);
  if (!kSolves && !head.all.collects) copy_rows(memory.q(c), head.sweep.q, head, chunk);
  copy_rows(memory.k(c), head.sweep.k, head, chunk);
  copy_rows(memory.v(c), head.sweep.v, head, chunk);
  copy_async_commit();
  if (threadIdx.x < 32) sum_decays(memory.log_decay(c), head, chunk);
  if (const int i = threadIdx.x; kSolves && i < kChunk)
    memory.beta(c)[i] = i < chunk.rows ? head.all.beta[head.token(chunk.step(i)) * head.all.heads + head.h] : 0;
}

// The angles of the thread's pieces of a tile, at the step of their row.
template <int kColumns>
__device__ Angles angles(const Pieces<kColumns>& at, const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk) {
  const int64_t begin = head.angles(chunk.step(at.row < chunk.rows ? at.row : 0));
  return {head.all.turn, at, head.all.cosine + begin, head.all.sine + begin};
}

// Rotates tiles in place. The angles are read while the copies are still under way.
template <class... Tiles>
__device__ void turn_tiles(const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk, const Tiles&... tiles) {
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

// Rotates what RoPE rotates among the inputs: q and k in the forward; v, or k, in a gradient (linear_attention.cuh).
template <bool kSolves, int K, int V, int kStages>
__device__ void turn_inputs(const MmaMemory<K, V, kStages>& memory, const Head<Bf16>& head,
                            const Head<Bf16>::Chunk& chunk, int c) {
  const Tile<K> k = memory.k(c), q = kSolves ? k : memory.q(c);
  if (head.sweep.v.turned)
    turn_tiles(head, chunk, memory.v(c));
  else if (head.sweep.k.turned)
    head.all.collects ? turn_tiles(head, chunk, k) : turn_tiles(head, chunk, q, k);
}

// Writes a chunk of o, and applies RoPE backwards and the mask of relu where a gradient needs them.
template <int kColumns>
__device__ void write_rows(Tile<kColumns> from, const Head<Bf16>& head, const Head<Bf16>::Chunk& chunk) {
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

// Where the elements that a thread holds in registers stand in the block's matrices. The 16 warps form 4 rows of 4 columns, and
// a warp takes 16 rows. Of a tile of 16 x 8 a thread holds two pairs of neighbours, in two rows, from column `pair` on
// (mma.cuh).
struct Place {
  int lane = threadIdx.x % 32, row = threadIdx.x / 128 * 16, column = threadIdx.x / 32 % 4;
  int rows[2] = {row + lane / 4, row + lane / 4 + 8}, pair = lane % 4 * 2;
};

// Stores 16 rows of a product, rounded to bf16, from first_column on. low, high: factors of the thread's two rows.
template <int kTiles, int kColumns>
__device__ __forceinline__ void store_product(Tile<kColumns> to, const float (&c)[kTiles][4], int first_column, const Place& at,
                                              float low = 1, float high = 1) {
#pragma unroll
  for (int e = 0; e < kTiles * 2; e++) {
    const int n = e / 2, half = e % 2;
    const float factor = half ? high : low;
    vector_at<uint32_t>(to.at(at.rows[half], first_column + at.pair + 8 * n)) =
        pack_bf16(factor * c[n][2 * half], factor * c[n][2 * half + 1]);
  }
}

}  // namespace supra::cuda
