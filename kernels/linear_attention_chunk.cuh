#pragma once
#include "kernels/linear_attention.cuh"

// A chunk without tensor cores, for any type and size: what the sweep (linear_attention.cu) and the delta rule's solve
// (delta_attention.cu) have in common. A block takes one head of one document and 32 columns of V, because columns of S do not
// depend on one another. It holds its columns of S in shared memory, and reads q and k in slices of 32 columns. A lane takes
// one column of V; a warp takes four steps of the chunk, and every eighth row of S.

namespace supra::cuda {

constexpr int kChunk = 32;  // steps; also the columns of V that a block takes, and the columns of K in a slice
constexpr int kWarps = 8;
constexpr int kEach = kChunk / kWarps;  // rows of a chunk that a warp takes
constexpr int64_t kLargestK = 512;

// The layout of shared memory, in f32: 80 KB if K is 512, which every GPU has. The pitch of q and k is odd, so lanes that read
// down a column have no bank conflicts.
struct ChunkMemory {
  static constexpr int kPitch = kChunk + 1, kTile = kChunk * kChunk;

  double* log_decay;  // (chunk) sums of log g from the chunk's first step to each
  float *q, *k;       // (chunk, 33): a slice of 32 columns
  float *v, *p;       // (chunk, 32): the block's columns of V, and the weights of the keys
  float* state;       // (K, 32), K rounded up to whole slices

  __device__ ChunkMemory() {
    log_decay = shared_memory<double>();
    q = reinterpret_cast<float*>(log_decay + kChunk);
    k = q + kChunk * kPitch;
    v = k + kChunk * kPitch;
    p = v + kTile;
    state = p + kTile;
  }
  static size_t bytes(int64_t K) {
    CHECK(K <= kLargestK, "linear_attention: heads %ld wide, the GPU's kernel takes up to %ld", static_cast<long>(K),
          static_cast<long>(kLargestK));
    return kChunk * sizeof(double) +
           (2 * kChunk * kPitch + 2 * kTile + (K + kChunk - 1) / kChunk * kTile) * sizeof(float);
  }
};

template <class T>
struct ChunkBlock {
  using Chunk = typename Head<T>::Chunk;

  const Head<T>& head;
  const Sweep<T>& sweep;
  const ChunkMemory m = {};
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first_column = blockIdx.y * 32, column = first_column + lane;
  const int slices = (sweep.K + kChunk - 1) / kChunk;
  const bool live = column < sweep.V;

  __device__ explicit ChunkBlock(const Head<T>& of) : head(of), sweep(of.sweep) {}
  __device__ bool idle() const { return first_column >= sweep.V || head.idle(kChunk); }

  __device__ void take_state() const {
    const State first = head.first();
    for (int i = warp; i < slices * kChunk; i += kWarps) {
      m.state[i * 32 + lane] = first.data && live && i < sweep.K ? *first.at(i, column) : 0;
    }
  }
  __device__ void give_state() const {
    const State last = head.last(kChunk);
    if (!last.data || !live) return;
    const float factor = head.last_factor();
    for (int i = warp; i < sweep.K; i += kWarps) *last.at(i, column) = factor * m.state[i * 32 + lane];
  }

  // The decays and values of a chunk.
  __device__ void take_chunk(const Chunk& chunk) const {
    if (warp == 0) {
      double sum = 0;
      for (int i = 0; i <= lane && i < chunk.rows; i++) sum += head.log_decay_at(chunk.step(i));
      m.log_decay[lane] = sum;
    }
    for (int i = warp; i < kChunk; i += kWarps) {
      const int64_t token = head.token(chunk.step(i));
      m.v[i * 32 + lane] = i < chunk.rows && live ? to_float(sweep.v.at(token, head.h)[column]) : 0;
    }
  }
  // A slice of q or k.
  __device__ void take_slice(float* to, const Operand<const T>& from, const Chunk& chunk, int slice) const {
    const int k = slice * kChunk + lane;
    for (int i = warp; i < kChunk; i += kWarps) {
      const int64_t token = head.token(chunk.step(i));
      to[i * m.kPitch + lane] = i < chunk.rows && k < sweep.K ? to_float(from.at(token, head.h)[k]) : 0;
    }
  }
  __device__ float* state(int slice) const { return m.state + slice * m.kTile; }

  // Adds a slice's part of two products of the steps first, first + by, ...: q k^T for key `lane`, and q S for column `lane`.
  __device__ void meet(float (&weight)[kEach], float (&before)[kEach], const float* q, int slice, int first, int by) const {
    for (int j = 0; j < kChunk; j++) {
      const float key = m.k[lane * m.kPitch + j], s = state(slice)[j * 32 + lane];
      for (int e = 0; e < kEach; e++) {
        const float query = q[(first + e * by) * m.kPitch + j];
        weight[e] += query * key;
        before[e] += query * s;
      }
    }
  }
  // A slice of S becomes what it is after the chunk: S = decay S + K^T diag(kept) V.
  __device__ void add_values(int slice) const {
    float* const S = state(slice);
    const double whole = m.log_decay[kChunk - 1];
    const float decay = expf(static_cast<float>(whole));
    // lane j has the factor that step j keeps until the chunk's end
    const float kept = sweep.in_scale * expf(static_cast<float>(whole - m.log_decay[lane]));
    float s[kEach];
    for (int e = 0; e < kEach; e++) s[e] = decay * S[(warp + e * kWarps) * 32 + lane];
    for (int j = 0; j < kChunk; j++) {
      const float value = __shfl_sync(kWholeWarp, kept, j) * m.v[j * 32 + lane];
      for (int e = 0; e < kEach; e++) s[e] += m.k[j * m.kPitch + warp + e * kWarps] * value;
    }
    for (int e = 0; e < kEach; e++) S[(warp + e * kWarps) * 32 + lane] = s[e];
  }
  // The decay from key `lane` to a later step i of the chunk, and from the chunk's beginning to step i.
  __device__ float between(int i) const { return expf(static_cast<float>(m.log_decay[i] - m.log_decay[lane])); }
  __device__ float since_chunk(int i) const { return expf(static_cast<float>(m.log_decay[i])); }
};

}  // namespace supra::cuda
