#include <algorithm>
#include <cmath>

#include "kernels/cuda.h"
#include "tensor/elements.cuh"
#include "tensor/tensor.h"

// A step of softmax attention over a ring. A block takes kHeads of the query heads that share a key head, of one row. Its
// warps take 32 slots of the ring at a time, with the running maximum and sum of softmax_attention.simd.cpp: eight lanes
// share the key of a slot, then a lane has a slot's weights, then a column of the values. What the warps found is joined in
// the end. Where that leaves multiprocessors idle, several blocks share the slots, and a second kernel joins what these
// found. Nobody reads the step's own slot: its key and value are those given.

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
  // What each of `parts` blocks found: (B,H,parts,V) and (B,H,parts); null where there is one.
  int parts;
  float *part_o, *part_lse;
};

// Softmax attention over pieces of the keys, each with o and lse of its own, that of no keys being -inf: an element of o.
struct Joined {
  float o = 0, lse;

  __device__ Joined(const float* piece_o, int64_t o_step, const float* piece_lse, int64_t lse_step, int pieces) {
    // finite: a piece may have no keys
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

template <int kHeads>
size_t shared_bytes(const WindowStepSizes& n) {
  return kHeads * (2 * n.K + kWarps * (kSlots + n.V + 1)) * sizeof(float);
}

template <class T, int W, int kHeads>
__global__ void __launch_bounds__(kWarps * 32, 1) window_step_kernel(WindowStep<T> step) {
  const WindowStepSizes& n = step.n;
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V), sinks = static_cast<int>(n.sinks);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t family = n.H / n.G, blocks_of_group = (family + kHeads - 1) / kHeads;
  const int64_t group = blockIdx.x / blocks_of_group, b = group / n.G, g = group % n.G;
  const int first_head = static_cast<int>(blockIdx.x % blocks_of_group) * kHeads;
  const int heads = std::min(kHeads, static_cast<int>(family) - first_head);
  const int64_t head = group * family + first_head;
  const int position = step.positions[b], window = static_cast<int>(n.window), slots = sinks + window;
  const int own = position < sinks ? position : sinks + (position - sinks) % window;
  const int filled = position < slots ? position + 1 : slots;
  const auto row = [&](auto* ring, int64_t dim, int slot) { return ring + ((b * slots + slot) * n.G + g) * dim; };

  if (first_head == 0 && blockIdx.y == 0) {
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

  // queries for the window and for sinks (2,kHeads,K); of each warp weights (kSlots,kHeads), o (kHeads,V) and lse (kHeads)
  float *const queries = shared_memory<float>(), *const all_weights = queries + 2 * kHeads * K;
  float *const all_o = all_weights + kWarps * kSlots * kHeads, *const all_lse = all_o + kWarps * kHeads * V;
  float *const weights = all_weights + warp * kSlots * kHeads, *const o = all_o + warp * kHeads * V;
  for (int i = threadIdx.x; i < kHeads * K; i += kWarps * 32) {
    const bool live = i < heads * K;
    queries[i] = live ? n.scale * to_float(step.q[head * K + i]) : 0;
    queries[kHeads * K + i] = live ? n.scale * to_float(step.q_sinks[head * K + i]) : 0;
  }
  for (int i = lane; i < kHeads * V; i += 32) o[i] = 0;
  __syncthreads();

  float top[kHeads], sum[kHeads] = {}, keep[kHeads];
  for (int h = 0; h < kHeads; h++) top[h] = -INFINITY;
  const int stride = step.parts * kWarps * kSlots;
  for (int first = (blockIdx.y * kWarps + warp) * kSlots; first < filled; first += stride) {
    const int count = filled - first < kSlots ? filled - first : kSlots;
    for (int i = lane / kLanes; i < kSlots; i += 32 / kLanes) {
      const int slot = first + i;
      const T* const key = slot == own ? step.k + group * K : row(step.ring_k, K, slot);
      const float* const query = queries + (slot < sinks ? kHeads * K : 0);
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
    __syncwarp();
    for (int h = 0; h < kHeads; h++) {
      float& weight = weights[lane * kHeads + h];
      const float highest = fmaxf(top[h], warp_max(weight));
      keep[h] = expf(top[h] - highest);
      weight = expf(weight - highest);
      sum[h] = keep[h] * sum[h] + warp_sum(weight);
      top[h] = highest;
    }
    __syncwarp();
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
      for (int h = 0; h < kHeads; h++) o[h * V + c] = keep[h] * o[h * V + c] + x[h];
    }
    // the weights are read
    __syncwarp();
  }
  for (int h = 0; h < kHeads; h++) {
    for (int c = lane; c < V; c += 32) o[h * V + c] = sum[h] > 0 ? o[h * V + c] / sum[h] : 0;
    if (lane == 0) all_lse[warp * kHeads + h] = sum[h] > 0 ? top[h] + logf(sum[h]) : -INFINITY;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < heads * V; i += kWarps * 32) {
    const int64_t h = i / V, c = i % V, at = (head + h) * step.parts + blockIdx.y;
    const Joined all(all_o + i, kHeads * V, all_lse + h, kHeads, kWarps);
    if (step.parts == 1)
      store_1(step.o + at * V + c, all.o);
    else
      step.part_o[at * V + c] = all.o;
    if (c == 0) (step.parts == 1 ? step.lse : step.part_lse)[at] = all.lse;
  }
}

}  // namespace

template <class T>
void window_step(T* o, float* lse, T* old_k, T* old_v, T* ring_k, T* ring_v, const T* q, const T* q_sinks, const T* k,
                 const T* v, const int32_t* positions, const WindowStepSizes& n) {
  const int64_t family = n.H / n.G;
  const auto go = [&]<int W, int kHeads>(std::integral_constant<int, W>, std::integral_constant<int, kHeads>) {
    const int64_t count = n.B * n.G * blocks(family, kHeads), rounds = blocks(n.sinks + n.window, kWarps * kSlots);
    // a warp has two rounds at least: less would cost no less than the second kernel
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
        {{blocks(count, 1), static_cast<unsigned>(parts)}, kWarps * 32, shared_bytes<kHeads>(n)}, step);
    if (parts > 1) each_element<1>(n.B * n.H, n.V, false, JoinParts<T>{step});
  };
  const auto by_heads = [&](auto width) {
    family == 1 ? go(width, std::integral_constant<int, 1>()) : go(width, std::integral_constant<int, 4>());
  };
  fits_vectors(n.K, ring_k, k) ? by_heads(std::integral_constant<int, 4>()) : by_heads(std::integral_constant<int, 1>());
}

template decltype(window_step<float>) window_step<float>;
template decltype(window_step<Bf16>) window_step<Bf16>;

}  // namespace supra::cuda
