#include <algorithm>
#include <cmath>

#include "kernels/cuda.h"
#include "tensor/elements.cuh"
#include "tensor/tensor.h"

// One decoding step of softmax attention over a ring of keys (window_step.cpp): o = sum of p_s v_s over the slots that are
// filled, where p = softmax(score), score_s = scale q k_s or cap tanh(scale q k_s).
//   q (B,H,K)  k (B,G,K)  v (B,G,V)  ring_k (B,S,G,K)  ring_v (B,S,G,V)  ->  o (B,H,V)  lse (B,H)
//
// A block takes kHeads of the query heads that share a key head, in one row of the batch. Each of its warps takes 32 slots at a
// time, with a running maximum and sum as in softmax_attention.simd.cpp: eight lanes share the key of a slot, then a lane has
// the weights of a slot, then a lane has a column of the values. At the end the results of the warps are joined. If the blocks
// are fewer than the multiprocessors, several blocks share the slots, and a second kernel joins their results. The step's own
// key and value are read from k and v, because the block that writes them into the ring may not have done so yet.
//
// What bounds it: reading the ring, every element once for each kHeads query heads. Reads are coalesced.

namespace supra::cuda {

namespace {

constexpr int kWarps = 8, kSlots = 32, kLanes = 8;

template <class T>
struct WindowStep {
  T* o;
  float* lse;
  T *old_k, *old_v, *ring_k, *ring_v;
  const T *q, *q_sinks, *k, *v;
  const int32_t* positions;
  WindowStepSizes n;
  // The results of each of `parts` blocks: (B,H,parts,V) and (B,H,parts); null if there is one.
  int parts;
  float *part_o, *part_lse;
};

// An element of o and the lse of softmax attention, joined from pieces of the keys that have an o and an lse each. The lse of a
// piece without keys is -inf.
struct Joined {
  float o = 0, lse;

  __device__ Joined(const float* piece_o, int64_t o_step, const float* piece_lse, int64_t lse_step, int pieces) {
    // finite, because all pieces may have no keys
    float top = -1e30f, sum = 0;
    for (int i = 0; i < pieces; i++) top = fmaxf(top, piece_lse[i * lse_step]);
    for (int i = 0; i < pieces; i++) {
      const float weight = expf(piece_lse[i * lse_step] - top);
      sum += weight, o += weight * piece_o[i * o_step];
    }
    o = sum > 0 ? o / sum : 0;
    lse = top + logf(sum);
  }
};

template <class T>
struct JoinParts {
  WindowStep<T> step;
  template <int W>
  __device__ void at(unsigned head, int64_t i) const {
    const int64_t V = step.n.V, first = int64_t{head} * step.parts;
    const Joined all(step.part_o + first * V + i, V, step.part_lse + first, 1, step.parts);
    store_1(step.o + head * V + i, all.o);
    if (i == 0) step.lse[head] = all.lse;
  }
};

// The layout of shared memory: queries for the window and for the sinks (2,kHeads,K), and for each warp the weights of its
// slots (kSlots,kHeads), o (kHeads,V) and lse (kHeads).
template <int kHeads>
struct WindowMemory {
  float *queries, *weights, *o, *lse;

  __device__ WindowMemory(int K, int V) : queries(shared_memory<float>()) {
    weights = queries + 2 * kHeads * K;
    o = weights + kWarps * kSlots * kHeads;
    lse = o + kWarps * kHeads * V;
  }
  static size_t bytes(const WindowStepSizes& n) { return kHeads * (2 * n.K + kWarps * (kSlots + n.V + 1)) * sizeof(float); }
};

// The running softmax of a warp: for each head the largest score, the sum of the weights relative to it, and the factor that
// the latest slots put on what was summed before them.
template <int kHeads>
struct RunningSoftmax {
  float top[kHeads], sum[kHeads] = {}, keep[kHeads];

  __device__ RunningSoftmax() {
    for (int h = 0; h < kHeads; h++) top[h] = -INFINITY;
  }
};

template <class T, int W, int kHeads>
struct WindowBlock {
  const WindowStep<T>& step;
  const WindowStepSizes& n = step.n;
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V);
  const int sinks = static_cast<int>(n.sinks), window = static_cast<int>(n.window), slots = sinks + window;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t family = n.H / n.G, blocks_of_group = (family + kHeads - 1) / kHeads;
  // the key head among all rows, and the block's query heads: of B*H the first, and their number
  const int64_t group = blockIdx.x / blocks_of_group, b = group / n.G, g = group % n.G;
  const int first_head = static_cast<int>(blockIdx.x % blocks_of_group) * kHeads;
  const int heads = std::min(kHeads, static_cast<int>(family) - first_head);
  const int64_t head = group * family + first_head;
  // the slot of the step's own key, and how many slots are filled
  const int position = step.positions[b];
  const int own = position < sinks ? position : sinks + (position - sinks) % window;
  const int filled = position < slots ? position + 1 : slots;
  const WindowMemory<kHeads> memory = {K, V};
  float *const weights = memory.weights + warp * kSlots * kHeads, *const o = memory.o + warp * kHeads * V;

  template <class E>
  __device__ E* row(E* ring, int dim, int slot) const {
    return ring + ((b * slots + slot) * n.G + g) * dim;
  }

  // The key and value of the step go into the ring; old_k and old_v get what they replace.
  __device__ void replace_own_slot() const {
    const bool left = position >= slots;
    for (int i = threadIdx.x; i <= std::max(K, V); i += kWarps * 32) {
      T *const ring_k = row(step.ring_k, K, own) + i, *const ring_v = row(step.ring_v, V, own) + i;
      if (i < K) {
        if (step.old_k) step.old_k[group * K + i] = left ? *ring_k : T();
        *ring_k = step.k[group * K + i];
      }
      if (step.old_k && i <= V) store_1(step.old_v + group * (V + 1) + i, !left ? 0 : i < V ? to_float(*ring_v) : 1);
      if (i < V) *ring_v = step.v[group * V + i];
    }
  }

  // The queries, scaled, to shared memory, and zeros to o.
  __device__ void prepare() const {
    for (int i = threadIdx.x; i < kHeads * K; i += kWarps * 32) {
      const bool live = i < heads * K;
      memory.queries[i] = live ? n.scale * to_float(step.q[head * K + i]) : 0;
      memory.queries[kHeads * K + i] = live ? n.scale * to_float(step.q_sinks[head * K + i]) : 0;
    }
    for (int i = lane; i < kHeads * V; i += 32) o[i] = 0;
  }

  // The scores of `count` slots from `first` on. Eight lanes share a slot.
  __device__ void score(int first, int count) const {
    for (int i = lane / kLanes; i < kSlots; i += 32 / kLanes) {
      const int slot = first + i;
      const T* const key = slot == own ? step.k + group * K : row(step.ring_k, K, slot);
      const float* const query = memory.queries + (slot < sinks ? kHeads * K : 0);
      float s[kHeads] = {};
      for (int c = lane % kLanes * W; i < count && c < K; c += kLanes * W) {
        float x[W], y[W];
        load(x, key + c);
        for (int h = 0; h < kHeads; h++) {
          load(y, query + h * K + c);
          for (int e = 0; e < W; e++) s[h] += x[e] * y[e];
        }
      }
      for (int h = 0; h < kHeads; h++) {
        s[h] = warp_sum(s[h], kLanes);
        if (n.cap > 0) s[h] = n.cap * tanhf(s[h]);
        if (lane % kLanes == 0) weights[i * kHeads + h] = i < count ? s[h] : -INFINITY;
      }
    }
  }

  // The scores become weights, relative to the largest score so far. A lane takes a slot.
  __device__ void weigh(RunningSoftmax<kHeads>& all) const {
    for (int h = 0; h < kHeads; h++) {
      float& weight = weights[lane * kHeads + h];
      const float highest = fmaxf(all.top[h], warp_max(weight));
      all.keep[h] = expf(all.top[h] - highest);
      weight = expf(weight - highest);
      all.sum[h] = all.keep[h] * all.sum[h] + warp_sum(weight);
      all.top[h] = highest;
    }
  }

  // o = keep o + weights V. A lane takes every 32nd column.
  __device__ void add_values(int first, int count, const RunningSoftmax<kHeads>& all) const {
    for (int c = lane; c < V; c += 32) {
      float x[kHeads] = {};
#pragma unroll 4
      for (int i = 0; i < count; i++) {
        const int slot = first + i;
        const float value = to_float((slot == own ? step.v + group * V : row(step.ring_v, V, slot))[c]);
        float w[kHeads];
        load(w, weights + i * kHeads);
        for (int h = 0; h < kHeads; h++) x[h] += w[h] * value;
      }
      for (int h = 0; h < kHeads; h++) o[h * V + c] = all.keep[h] * o[h * V + c] + x[h];
    }
  }

  // o and lse of the warp's slots.
  __device__ void finish(const RunningSoftmax<kHeads>& all) const {
    const auto& [top, sum, keep] = all;
    for (int h = 0; h < kHeads; h++) {
      for (int c = lane; c < V; c += 32) o[h * V + c] = sum[h] > 0 ? o[h * V + c] / sum[h] : 0;
      if (lane == 0) memory.lse[warp * kHeads + h] = sum[h] > 0 ? top[h] + logf(sum[h]) : -INFINITY;
    }
  }

  // o and lse of the block, joined from those of its warps.
  __device__ void join_warps() const {
    for (int i = threadIdx.x; i < heads * V; i += kWarps * 32) {
      const int64_t h = i / V, c = i % V, at = (head + h) * step.parts + blockIdx.y;
      const Joined all(memory.o + i, kHeads * V, memory.lse + h, kHeads, kWarps);
      if (step.parts == 1)
        store_1(step.o + at * V + c, all.o);
      else
        step.part_o[at * V + c] = all.o;
      if (c == 0) (step.parts == 1 ? step.lse : step.part_lse)[at] = all.lse;
    }
  }
};

template <class T, int W, int kHeads>
__global__ void __launch_bounds__(kWarps * 32, 1) window_step_kernel(const __grid_constant__ WindowStep<T> step) {
  const WindowBlock<T, W, kHeads> block = {step};
  if (block.first_head == 0 && blockIdx.y == 0) block.replace_own_slot();
  block.prepare();
  __syncthreads();
  RunningSoftmax<kHeads> all;
  const int stride = step.parts * kWarps * kSlots;
  for (int first = (blockIdx.y * kWarps + block.warp) * kSlots; first < block.filled; first += stride) {
    const int count = block.filled - first < kSlots ? block.filled - first : kSlots;
    block.score(first, count);
    __syncwarp();
    block.weigh(all);
    __syncwarp();
    block.add_values(first, count, all);
    // the warp has read the weights
    __syncwarp();
  }
  block.finish(all);
  __syncthreads();
  block.join_warps();
}

}  // namespace

template <class T>
void window_step(T* o, float* lse, T* old_k, T* old_v, T* ring_k, T* ring_v, const T* q, const T* q_sinks, const T* k,
                 const T* v, const int32_t* positions, const WindowStepSizes& n) {
  const int64_t family = n.H / n.G;
  const auto go = [&]<int W, int kHeads>() {
    const int64_t count = n.B * n.G * blocks(family, kHeads), rounds = blocks(n.sinks + n.window, kWarps * kSlots);
    // each warp keeps two rounds at least: with fewer the second kernel would cost more than it saves
    const int64_t parts = std::clamp<int64_t>(attribute(cudaDevAttrMultiProcessorCount) / std::max<int64_t>(1, count), 1,
                                              std::max<int64_t>(1, rounds / 2));
    WindowStep<T> step = {
        o, lse, old_k, old_v, ring_k, ring_v, q, q_sinks, k, v, positions, n, static_cast<int>(parts), nullptr, nullptr};
    Tensor memory;
    if (parts > 1) {
      memory = Tensor::empty({n.B * n.H * parts * (n.V + 1)}, Dtype::f32, Device::cuda);
      step.part_o = memory.data<float>(Device::cuda), step.part_lse = step.part_o + n.B * n.H * parts * n.V;
    }
    launch<window_step_kernel<T, W, kHeads>>(
        {{blocks(count, 1), static_cast<unsigned>(parts)}, kWarps * 32, WindowMemory<kHeads>::bytes(n)}, step);
    if (parts > 1) each_element<1>(n.B * n.H, n.V, false, JoinParts<T>{step});
  };
  by_width<4>(fits_vectors(n.K, ring_k, k), [&]<int W>(std::integral_constant<int, W>) {
    family == 1 ? go.template operator()<W, 1>() : go.template operator()<W, 4>();
  });
}

template decltype(window_step<float>) window_step<float>;
template decltype(window_step<Bf16>) window_step<Bf16>;

}  // namespace supra::cuda
