#include <type_traits>

#include "kernels/linear_attention.cuh"
#include "tensor/tensor.h"

// Linear attention on the GPU for any type and size: the sweep without tensor cores, and the step that
// decodes. Formulas: linear_attention.cpp; the matrices of a chunk: linear_attention.simd.cpp.

namespace supra::cuda {

constexpr int kChunk = 32;  // steps, columns of V that a block takes, columns of K that it looks at at once
constexpr int kWarps = 8;
constexpr int kEach = kChunk / kWarps;  // rows of a chunk that a warp takes: every eighth
constexpr int64_t kLargestK = 512;

// Shared memory of a chunk: 80 KB where K is 512, which every GPU has. Rows of q and k have an odd pitch:
// lanes that read down a column meet no bank twice.
struct ChunkMemory {
  static constexpr int kPitch = kChunk + 1, kTile = kChunk * kChunk;

  double* log_decay;  // (chunk) sums of log g from the chunk's first step to each
  float *q, *k;       // (chunk, 33): 32 columns
  float *v, *p;       // (chunk, 32): the block's columns of V, and the weights of its keys
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
    return kChunk * sizeof(double) +
           (2 * kChunk * kPitch + 2 * kTile + (K + kChunk - 1) / kChunk * kTile) * sizeof(float);
  }
};

// A block takes one head of one document and 32 columns of V: those of S stand for themselves. A warp takes
// every eighth step of the chunk and every eighth row of S, a lane one column.
template <class T>
__global__ void __launch_bounds__(kWarps * 32)
    linear_attention_kernel(const __grid_constant__ Sweeps<T> sweeps) {
  const Head<T> head(sweeps, blockIdx.x);
  const Sweep<T>& sweep = head.sweep;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, first_column = blockIdx.y * 32;
  const int column = first_column + lane, slices = (sweep.K + kChunk - 1) / kChunk;
  const bool live = column < sweep.V;
  if (first_column >= sweep.V || head.idle(kChunk)) return;
  const ChunkMemory m;
  const State first = head.first();
  for (int i = warp; i < slices * kChunk; i += kWarps) {
    m.state[i * 32 + lane] = first.data && live && i < sweep.K ? *first.at(i, column) : 0;
  }
  // log of what the segment leaves of the state that came into it
  double left = 0;
  for (int c = head.first_chunk(); c < head.end_chunk(kChunk); c++) {
    const auto chunk = head.chunk(c, kChunk);
    if (warp == 0) {
      double sum = 0;
      for (int i = 0; i <= lane && i < chunk.rows; i++) sum += head.log_decay_at(chunk.step(i));
      m.log_decay[lane] = sum;
    }
    for (int i = warp; i < kChunk; i += kWarps) {
      const int64_t token = head.token(chunk.step(i));
      m.v[i * 32 + lane] = i < chunk.rows && live ? to_float(sweep.v.at(token, head.h)[column]) : 0;
    }
    // of the warp's steps: the weight of key `lane`, and what S gives column `lane`
    float weight[kEach] = {}, before[kEach] = {};
    for (int slice = 0; slice < slices; slice++) {
      const int k = slice * kChunk + lane;
      for (int i = warp; i < kChunk; i += kWarps) {
        const int64_t token = head.token(chunk.step(i));
        const bool there = i < chunk.rows && k < sweep.K;
        m.q[i * m.kPitch + lane] = there ? to_float(sweep.q.at(token, head.h)[k]) : 0;
        m.k[i * m.kPitch + lane] = there ? to_float(sweep.k.at(token, head.h)[k]) : 0;
      }
      float* const S = m.state + slice * m.kTile;
      __syncthreads();
      for (int j = 0; j < kChunk; j++) {
        const float key = m.k[lane * m.kPitch + j], s = S[j * 32 + lane];
        for (int e = 0; e < kEach; e++) {
          const float query = m.q[(warp + e * kWarps) * m.kPitch + j];
          weight[e] += query * key;
          before[e] += query * s;
        }
      }
      // all have read S
      __syncthreads();
      const double whole = m.log_decay[kChunk - 1];
      const float decay = expf(static_cast<float>(whole));
      // lane j keeps what is left at the chunk's end of a step j
      const float kept = sweep.in_scale * expf(static_cast<float>(whole - m.log_decay[lane]));
      float s[kEach];
      for (int e = 0; e < kEach; e++) s[e] = decay * S[(warp + e * kWarps) * 32 + lane];
      for (int j = 0; j < kChunk; j++) {
        const float value = __shfl_sync(kWholeWarp, kept, j) * m.v[j * 32 + lane];
        for (int e = 0; e < kEach; e++) s[e] += m.k[j * m.kPitch + warp + e * kWarps] * value;
      }
      for (int e = 0; e < kEach; e++) S[(warp + e * kWarps) * 32 + lane] = s[e];
      // nobody needs this slice of q and k any more
      __syncthreads();
    }
    left += m.log_decay[kChunk - 1];
    for (int e = 0; e < kEach && !sweeps.collects; e++) {
      const int i = warp + e * kWarps;
      const float decay = expf(static_cast<float>(m.log_decay[i] - m.log_decay[lane]));
      m.p[i * 32 + lane] = lane <= i ? sweep.in_scale * sweep.out_scale * decay * weight[e] : 0;
      __syncwarp();
      float y = sweep.out_scale * expf(static_cast<float>(m.log_decay[i])) * before[e];
      for (int j = 0; j <= i; j++) y += m.p[i * 32 + j] * m.v[j * 32 + lane];
      const bool writes = live && i < chunk.rows;
      const int64_t token = head.token(chunk.step(i));
      if (writes) store_1(sweep.o.at(token, head.h) + column, y);
      if (!sweep.dots) continue;
      const float dot = warp_sum(writes ? y * to_float(sweep.factor.at(token, head.h)[column]) : 0);
      if (lane == 0 && i < chunk.rows)
        sweep.dots[(blockIdx.y * sweeps.tokens + token) * sweeps.heads + head.h] = dot;
    }
    // nobody needs the chunk any more
    __syncthreads();
  }
  head.blank_rest(first_column, std::min(first_column + 32, sweep.V));
  if (sweeps.collects && blockIdx.y + threadIdx.x == 0)
    *head.carried_decay() = expf(static_cast<float>(left));
  const State last = head.last(kChunk);
  if (!last.data || !live) return;
  const float factor = head.last_factor();
  for (int i = warp; i < sweep.K; i += kWarps) *last.at(i, column) = factor * m.state[i * 32 + lane];
}

// states (gridDim.x,segments,size), decays (gridDim.x,segments): what a segment leaves of its own steps
// becomes all that it leaves.
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
  const int64_t K = sweeps.each[0].K, V = sweeps.each[0].V;
  for (int i = 0; i < sweeps.count; i++) {
    const Sweep<T>& s = sweeps.each[i];
    CHECK(!s.q.turned && !s.v.turned && !s.masked,
          "linear_attention: rope and relu within the kernel, for a gradient that is not aligned to 16 bytes");
  }
  CHECK(K <= kLargestK, "linear_attention: heads %ld wide, the GPU's kernel takes up to %ld",
        static_cast<long>(K), static_cast<long>(kLargestK));
  launch<linear_attention_kernel<T>>(
      {{blocks(sweeps.blocks_to_do(), 1), blocks(V, 32)}, kWarps * 32, ChunkMemory::bytes(K)}, sweeps);
}

// Into how many segments documents are cut: so many that every multiprocessor has a block. A segment has two
// chunks at least; the state alone of one would cost as much as its output.
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

// S = g S + scale k v^T, o = q S. A block takes one state, the heads that share it one after the other, and as many
// columns of V as its threads span, W each. blockDim.y threads share a column; thread y takes rows y, y + blockDim.y, ...
// of S.
template <class T, int W>
__global__ void __launch_bounds__(kWarps * 32)
    linear_attention_step_kernel(T* o, float* state, LinearAttentionInputs<T> in, int64_t sharing) {
  const LinearAttentionSizes& n = in.n;
  const int64_t first = blockIdx.x * sharing, column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * W;
  float* const S = state + blockIdx.x * n.K * n.V + column;
  float* const sums = shared_memory<float>();
  const int width = blockDim.x * W;
  for (int64_t head = first; head < first + sharing; head++) {
    const int64_t row = head / n.H, h = head % n.H;
    const T *const q = q_of(in).at(row, h), *const k = k_of(in).at(row, h);
    const float g = expf(in.log_decay[n.decay_by_token ? head : h]);
    float sum[W] = {};
    if (column < n.V) {
      float v[W];
      load(v, v_of(in).at(row, h) + column);
      for (int e = 0; e < W; e++) v[e] *= n.scale;
      for (int64_t i = threadIdx.y; i < n.K; i += blockDim.y) {
        const float query = to_float(q[i]), key = to_float(k[i]);
        float s[W];
        load(s, S + i * n.V);
        for (int e = 0; e < W; e++) {
          if (head == first) s[e] = g * s[e] + key * v[e];
          sum[e] += query * s[e];
        }
        if (head == first) store(S + i * n.V, s);
      }
    }
    for (int e = 0; e < W; e++) sums[threadIdx.y * width + threadIdx.x * W + e] = sum[e];
    __syncthreads();
    if (threadIdx.y == 0 && column < n.V) {
      for (unsigned y = 1; y < blockDim.y; y++) {
        for (int e = 0; e < W; e++) sum[e] += sums[y * width + threadIdx.x * W + e];
      }
      store(o + head * n.V + column, sum);
    }
    // nobody writes the next head's before these are read
    if (head + 1 < first + sharing) __syncthreads();
  }
}

template <class T, int W>
static void step(T* o, float* state, const LinearAttentionInputs<T>& in, int64_t sharing) {
  const LinearAttentionSizes& n = in.n;
  unsigned across = 1;
  while (across < 32 && across * W < n.V) across *= 2;
  launch<linear_attention_step_kernel<T, W>>({{blocks(n.B * n.H, sharing), blocks(n.V, across * W)},
                                              {across, kWarps * 32 / across},
                                              kWarps * 32 * W * sizeof(float)},
                                             o, state, in, sharing);
}

template <class T>
void linear_attention_step(T* o, float* state, const LinearAttentionInputs<T>& in, int64_t sharing) {
  CHECK(in.n.T == 1, "linear_attention_step: %ld steps were given, it takes one (use linear_attention)",
        static_cast<long>(in.n.T));
  const bool vectors = fits_vectors(in.n.V, o, in.v, state) && in.n.v_step % 4 == 0;
  (vectors ? step<T, 4> : step<T, 1>)(o, state, in, sharing);
}

template int64_t sweep(const Sweeps<float>&);
template int64_t sweep(const Sweeps<Bf16>&);
template void linear_attention_fwd(float*, float*, float*, const LinearAttentionInputs<float>&, double);
template void linear_attention_fwd(Bf16*, float*, float*, const LinearAttentionInputs<Bf16>&, double);
template void linear_attention_step(float*, float*, const LinearAttentionInputs<float>&, int64_t);
template void linear_attention_step(Bf16*, float*, const LinearAttentionInputs<Bf16>&, int64_t);

}  // namespace supra::cuda
