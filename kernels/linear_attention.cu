#include <type_traits>

#include "kernels/linear_attention_chunk.cuh"
#include "tensor/tensor.h"

// Linear attention on the GPU for any type and size: the sweep without tensor cores, and the step of decoding.
//
// The sweep computes S = g S + in_scale k v^T, o = out_scale q S by chunks of 32 steps (linear_attention.simd.cpp has the
// formulas of a chunk): q (B,T,H,K)  k (B,T,Gk,K)  v (B,T,Gv,V)  o (B,T,H,V)  S (B,H,K,V). linear_attention_chunk.cuh says what
// a block, a warp and a lane take. Arithmetic bounds it: about 6 K + 64 operations for each element of o, in f32 and out of
// shared memory.

namespace supra::cuda {

template <class T>
__global__ void __launch_bounds__(kWarps * 32)
    linear_attention_kernel(const __grid_constant__ Sweeps<T> sweeps) {
  const Head<T> head(sweeps, blockIdx.x);
  const Sweep<T>& sweep = head.sweep;
  const ChunkBlock<T> block(head);
  const ChunkMemory& m = block.m;
  const int lane = block.lane, warp = block.warp, first_column = block.first_column;
  if (block.idle()) return;
  block.take_state();
  // log of the factor by which the segment decays the state that comes in
  double left = 0;
  for (int c = head.first_chunk(); c < head.end_chunk(kChunk); c++) {
    const auto chunk = head.chunk(c, kChunk);
    block.take_chunk(chunk);
    // of the warp's steps, every eighth of the chunk
    float weight[kEach] = {}, before[kEach] = {};
    for (int slice = 0; slice < block.slices; slice++) {
      block.take_slice(m.q, sweep.q, chunk, slice);
      block.take_slice(m.k, sweep.k, chunk, slice);
      __syncthreads();
      block.meet(weight, before, m.q, slice, warp, kWarps);
      // all warps have read S
      __syncthreads();
      block.add_values(slice);
      // no warp reads this slice of q and k any more
      __syncthreads();
    }
    left += m.log_decay[kChunk - 1];
    for (int e = 0; e < kEach && !sweeps.collects; e++) {
      const int i = warp + e * kWarps;
      const float scale = sweep.in_scale * sweep.out_scale;
      m.p[i * 32 + lane] = lane + sweep.strict <= i ? scale * block.between(i) * weight[e] : 0;
      __syncwarp();
      float y = sweep.out_scale * block.since_chunk(i) * before[e];
      for (int j = 0; j <= i; j++) y += m.p[i * 32 + j] * m.v[j * 32 + lane];
      const bool writes = block.live && i < chunk.rows;
      const int64_t token = head.token(chunk.step(i));
      if (writes) store_1(sweep.o.at(token, head.h) + block.column, y);
      if (!sweep.dots) continue;
      const float dot = warp_sum(writes ? y * to_float(sweep.factor.at(token, head.h)[block.column]) : 0);
      if (lane == 0 && i < chunk.rows)
        sweep.dots[(blockIdx.y * sweeps.tokens + token) * sweeps.heads + head.h] = dot;
    }
    // no warp reads the chunk any more
    __syncthreads();
  }
  head.blank_rest(first_column, std::min(first_column + 32, sweep.V));
  if (sweeps.collects && blockIdx.y + threadIdx.x == 0)
    *head.carried_decay() = expf(static_cast<float>(left));
  block.give_state();
}

// states (gridDim.x,segments,size): the state of a segment's own steps becomes the state at the segment's end,
// S_i = decay_i S_{i-1} + S_i. decays (gridDim.x,segments). A thread takes one element of a head's state.
__global__ static void __launch_bounds__(kWarps * 32)
    carry_kernel(float* states, const float* decays, int64_t segments, int64_t size) {
  const int64_t i = int64_t{blockIdx.y} * blockDim.x + threadIdx.x, head = blockIdx.x;
  if (i >= size) return;
  states += head * segments * size + i, decays += head * segments;
  float s = *states;
  for (int64_t segment = 1; segment < segments; segment++) {
    s = decays[segment] * s + states[segment * size];
    states[segment * size] = s;
  }
}

// Without tensor cores.
template <class T>
static void sweep_any(const Sweeps<T>& sweeps) {
  for (int i = 0; i < sweeps.count; i++) {
    const Sweep<T>& s = sweeps.each[i];
    CHECK(!s.q.turned && !s.v.turned && !s.masked,
          "linear_attention: rope and relu within the kernel, for a gradient that is not aligned to 16 bytes");
  }
  const dim3 grid = {blocks(sweeps.blocks_to_do(), 1), blocks(sweeps.each[0].V, 32)};
  launch<linear_attention_kernel<T>>({grid, kWarps * 32, ChunkMemory::bytes(sweeps.each[0].K)}, sweeps);
}

// The number of segments into which documents are cut: enough for a block on every multiprocessor. A segment has at least two
// chunks, because collecting the state of one chunk would cost as much as its output.
template <class T>
static int64_t segments_of(const Sweeps<T>& sweeps, int64_t parts, int64_t chunks) {
  const int64_t heads = std::max<int64_t>(1, sweeps.heads_to_do() * parts);
  return std::clamp<int64_t>(attribute(cudaDevAttrMultiProcessorCount) / heads, 1,
                             std::max<int64_t>(1, chunks / 2));
}

template <class T>
int64_t sweep(const Sweeps<T>& sweeps) {
  bool mma = false;
  if constexpr (std::is_same_v<T, Bf16>) mma = mma_can(sweeps);
  const auto go = [&](const Sweeps<T>& s) {
    if constexpr (std::is_same_v<T, Bf16>) {
      if (mma) return sweep_mma(s);
    }
    sweep_any(s);
  };
  const int64_t parts = mma ? 1 : blocks(sweeps.each[0].V, 32), heads = sweeps.heads_to_do();
  const int64_t chunks = blocks(sweeps.steps, mma ? kMmaChunk : kChunk);
  Sweeps<T> all = sweeps;
  all.segment_chunks = blocks(chunks, segments_of(sweeps, parts, chunks));
  all.segments = std::max(1u, blocks(chunks, std::max(1, all.segment_chunks)));
  Tensor states, decays;
  if (const int64_t leave = all.segments - 1; leave > 0) {
    const int64_t size = int64_t{sweeps.each[0].K} * sweeps.each[0].V;
    states = Tensor::empty({heads, leave, size}, Dtype::f32, Device::cuda);
    decays = Tensor::empty({heads, leave}, Dtype::f32, Device::cuda);
    all.carried = states.data<float>(Device::cuda), all.carried_decay = decays.data<float>(Device::cuda);
    all.collects = true;
    go(all);
    all.collects = false;
    launch<carry_kernel>({{blocks(heads, 1), blocks(size, kWarps * 32)}, kWarps * 32}, all.carried,
                         all.carried_decay, leave, size);
  }
  go(all);
  for (int i = 0; i < sweeps.count && !mma; i++) {
    const Sweep<T>& s = sweeps.each[i];
    if (s.rstd) groupnorm_fwd(s.o.data, s.rstd, s.o.data, sweeps.tokens * sweeps.heads, s.V, s.eps);
  }
  return parts;
}

template <class T>
void linear_attention_fwd(T* o, float* rstd, float* last_state, const LinearAttentionInputs<T>& in,
                          double norm_eps) {
  const LinearAttentionSizes& n = in.n;
  Sweeps<T> sweeps(in);
  sweeps.add({.K = static_cast<int>(n.K),
              .V = static_cast<int>(n.V),
              .o = by_head(o, n.H, n.V),
              .q = q_of(in),
              .k = k_of(in),
              .v = v_of(in),
              .in_scale = n.scale,
              .first = in.state,
              .last = last_state,
              .rstd = rstd,
              .eps = static_cast<float>(norm_eps)});
  sweep(sweeps);
}

// One step of decoding: S = g S + scale k v^T, o = q S; with the delta rule (kOverwrites) v becomes beta (v - g k S) first.
//   q (B,H,K)  k (B,Gk,K)  v (B,Gv,V)  S (B,H/sharing,K,V)  ->  o (B,H,V)
// A block takes one state, with the heads that share it one after the other, and W columns of V for each thread in x.
// blockDim.y threads share a column: thread y takes rows y, y + blockDim.y, ... of S. Memory bounds it: S is read and written
// once, and the threads of a warp read neighbouring columns. (The delta rule reads S twice, the second time from the caches.)
template <class T, int W, bool kOverwrites>
__global__ void __launch_bounds__(kWarps * 32)
    linear_attention_step_kernel(T* o, float* state, LinearAttentionInputs<T> in, const float* beta, int64_t sharing) {
  const LinearAttentionSizes& n = in.n;
  const int64_t first = blockIdx.x * sharing, column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * W;
  float* const S = state + blockIdx.x * n.K * n.V + column;
  float* const sums = shared_memory<float>();
  const int width = blockDim.x * W;
  const bool live = column < n.V;
  // the sum over the threads of a column, in the first of them or in all
  const auto add_up = [&](float (&sum)[W], bool in_all) {
    for (int e = 0; e < W; e++) sums[threadIdx.y * width + threadIdx.x * W + e] = sum[e];
    __syncthreads();
    if (!in_all && threadIdx.y > 0) return;
    for (int e = 0; e < W; e++) {
      sum[e] = sums[threadIdx.x * W + e];
      for (unsigned y = 1; y < blockDim.y; y++) sum[e] += sums[y * width + threadIdx.x * W + e];
    }
  };
  for (int64_t head = first; head < first + sharing; head++) {
    const int64_t row = head / n.H, h = head % n.H;
    const T *const q = q_of(in).at(row, h), *const k = k_of(in).at(row, h);
    const float g = expf(in.log_decay[n.decay_by_token ? head : h]);
    float v[W] = {}, sum[W] = {}, s[W];
    if (live) load(v, v_of(in).at(row, h) + column);
    if constexpr (kOverwrites) {
      for (int64_t i = threadIdx.y; live && i < n.K; i += blockDim.y) {
        const float key = to_float(k[i]);
        load(s, S + i * n.V);
        for (int e = 0; e < W; e++) sum[e] += key * s[e];
      }
      add_up(sum, true);
      // all threads have read the sums
      __syncthreads();
      for (int e = 0; e < W; e++) v[e] = beta[head] * (v[e] - g * sum[e]), sum[e] = 0;
    }
    for (int e = 0; e < W; e++) v[e] *= n.scale;
    for (int64_t i = threadIdx.y; live && i < n.K; i += blockDim.y) {
      const float query = to_float(q[i]), key = to_float(k[i]);
      load(s, S + i * n.V);
      for (int e = 0; e < W; e++) {
        if (head == first) s[e] = g * s[e] + key * v[e];
        sum[e] += query * s[e];
      }
      if (head == first) store(S + i * n.V, s);
    }
    add_up(sum, false);
    if (threadIdx.y == 0 && live) store(o + head * n.V + column, sum);
    // the sums are read before the next head's are written
    if (head + 1 < first + sharing) __syncthreads();
  }
}

template <class T>
static void step(T* o, float* state, const LinearAttentionInputs<T>& in, const float* beta, int64_t sharing) {
  const LinearAttentionSizes& n = in.n;
  CHECK(n.T == 1, "linear_attention_step: %ld steps were given, it takes one (use linear_attention)", static_cast<long>(n.T));
  const auto go = [&]<int W, bool kOverwrites>() {
    unsigned across = 1;
    while (across < 32 && across * W < n.V) across *= 2;
    launch<linear_attention_step_kernel<T, W, kOverwrites>>({{blocks(n.B * n.H, sharing), blocks(n.V, across * W)},
                                                             {across, kWarps * 32 / across},
                                                             kWarps * 32 * W * sizeof(float)},
                                                            o, state, in, beta, sharing);
  };
  const bool vectors = fits_vectors(n.V, o, in.v, state) && n.v_step % 4 == 0;
  by_width<4>(vectors, [&]<int W>(std::integral_constant<int, W>) {
    beta ? go.template operator()<W, true>() : go.template operator()<W, false>();
  });
}

template <class T>
void linear_attention_step(T* o, float* state, const LinearAttentionInputs<T>& in, int64_t sharing) {
  step<T>(o, state, in, nullptr, sharing);
}
template <class T>
void delta_attention_step(T* o, float* state, const LinearAttentionInputs<T>& in, const float* beta) {
  step(o, state, in, beta, 1);
}

template int64_t sweep(const Sweeps<float>&);
template int64_t sweep(const Sweeps<Bf16>&);
template void linear_attention_fwd(float*, float*, float*, const LinearAttentionInputs<float>&, double);
template void linear_attention_fwd(Bf16*, float*, float*, const LinearAttentionInputs<Bf16>&, double);
template void linear_attention_step(float*, float*, const LinearAttentionInputs<float>&, int64_t);
template void linear_attention_step(Bf16*, float*, const LinearAttentionInputs<Bf16>&, int64_t);
template void delta_attention_step(float*, float*, const LinearAttentionInputs<float>&, const float*);
template void delta_attention_step(Bf16*, float*, const LinearAttentionInputs<Bf16>&, const float*);

}  // namespace supra::cuda
