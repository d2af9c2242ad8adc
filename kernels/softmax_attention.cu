#include <cmath>
#include <type_traits>

#include "kernels/softmax_attention.cuh"
#include "tensor/tensor.h"

// Softmax attention on the GPU for any type and size, without tensor cores.
//   o_t = sum over the keys s that t sees of p_ts v_s,  p_ts = e^(score_ts - lse_t)
//   score_ts = scale q_t k_s, or cap tanh(scale q_t k_s)
//   q, o (B,T,H,K|V)  k, v (B,S,G,K|V)  lse (B,T,H)   Backward: softmax_attention.cpp
//
// The kernels have the form of FlashAttention, with the running maximum and sum of softmax_attention.simd.cpp. A block holds 32
// rows in shared memory and walks along their partners, 32 at a time. A warp takes four of the rows, a lane one of the
// partners.
//
//   forward, dq    rows: queries, partners: the keys that they see
//   dk, dv         rows: keys, partners: the queries that see them, for one query head after another
//
// The sinks come first, the window after them (softmax_attention.cuh). Each result is written by one block, so there are no
// atomics and sums have a fixed order. Arithmetic bounds the kernels: f32 multiply-adds from shared memory. Shared memory
// limits the width of heads; if a head is too wide, launch() says so.

namespace supra::cuda {

constexpr int kRows = 32, kWarps = 8, kThreads = 32 * kWarps, kMine = kRows / kWarps;

// 32 rows of f32 in shared memory. The pitch is an odd multiple of four, so lanes that each read four columns of a row of their
// own have no bank conflicts.
struct Rows {
  float* elements;
  int pitch;

  __device__ float* at(int row, int column = 0) const { return elements + row * pitch + column; }
};
static __device__ __host__ int pitch(int64_t columns) { return (static_cast<int>(columns + 3) / 4 | 1) * 4; }

// Hands out Rows of shared memory.
struct Memory {
  float* next = shared_memory<float>();

  __device__ Rows rows(int64_t columns) {
    const Rows rows = {next, pitch(columns)};
    next += kRows * rows.pitch;
    return rows;
  }
};
// Bytes of one tile of 32 columns, and of so many of K and of V.
static size_t bytes(int64_t of_k, int64_t K, int64_t of_v, int64_t V) {
  return kRows * sizeof(float) * static_cast<size_t>(pitch(32) + of_k * pitch(K) + of_v * pitch(V));
}

// Copies rows [begin, end), and writes zeros behind them up to 32 rows, and behind C columns up to the pitch.
template <class T>
__device__ static void fill(Rows to, const T* from, int64_t step, int begin, int end, int C) {
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (int row = warp; row < kRows; row += kWarps) {
    for (int c = lane; c < to.pitch; c += 32) {
      *to.at(row, c) = begin + row < end && c < C ? to_float(from[(begin + row) * step + c]) : 0;
    }
  }
}

// Sets the warp's rows to zero. Each element belongs to one thread, from here to store_rows().
__device__ static void clear(Rows rows) {
  const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * kMine;
  for (int r = 0; r < kMine; r++) {
    for (int c = lane; c < rows.pitch; c += 32) *rows.at(mine + r, c) = 0;
  }
}

// s = the products of the warp's rows with the lane's partner.
__device__ static void multiply(float (&s)[kMine], Rows rows, Rows others, int C) {
  const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * kMine;
  for (int r = 0; r < kMine; r++) s[r] = 0;
#pragma unroll 2
  for (int c = 0; c < C; c += 4) {
    float y[4];
    load_4(y, others.at(lane, c));
    for (int r = 0; r < kMine; r++) {
      float x[4];
      load_4(x, rows.at(mine + r, c));
      for (int e = 0; e < 4; e++) s[r] += x[e] * y[e];
    }
  }
}

// sums = keep sums + weights others, for the warp's rows. w: the weights of the lane's partner.
__device__ static void add(Rows sums, const float (&keep)[kMine], Rows weights, const float (&w)[kMine],
                           Rows others, int C) {
  const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * kMine;
  // all lanes have read the weights of the last product
  __syncwarp();
  for (int r = 0; r < kMine; r++) *weights.at(mine + r, lane) = w[r];
  __syncwarp();
  for (int c = lane; c < C; c += 32) {
    float sum[kMine] = {};
#pragma unroll 2
    for (int j = 0; j < kRows; j += 4) {
      float y[4];
      for (int e = 0; e < 4; e++) y[e] = *others.at(j + e, c);
      for (int r = 0; r < kMine; r++) {
        float x[4];
        load_4(x, weights.at(mine + r, j));
        for (int e = 0; e < 4; e++) sum[r] += x[e] * y[e];
      }
    }
    for (int r = 0; r < kMine; r++) *sums.at(mine + r, c) = keep[r] * *sums.at(mine + r, c) + sum[r];
  }
}

// Writes the warp's rows of [begin, end), times `factor`.
template <class T>
__device__ static void store_rows(T* to, int64_t step, Rows rows, const float (&factor)[kMine], int begin,
                                  int end, int C) {
  const int lane = threadIdx.x % 32, mine = threadIdx.x / 32 * kMine;
  for (int r = 0; r < kMine && begin + mine + r < end; r++) {
    for (int c = lane; c < C; c += 32)
      store_1(to + (begin + mine + r) * step + c, factor[r] * *rows.at(mine + r, c));
  }
}

// The score of a product q k
__device__ static float score_of(const SoftmaxAttentionSizes& n, float product) {
  return n.cap > 0 ? n.cap * tanhf(n.scale * product) : n.scale * product;
}

// For each 32 of the keys that the queries [begin, end) see: copies them to k and v and calls f(the first of them).
template <class Head, class F>
__device__ static void walk(const Head& head, Rows k, Rows v, int begin, int end, int K, int V, F f) {
  const auto& sight = head.sight;
  for (int key = sight.from(begin), keys = sight.keys(end - 1); key < keys; key = sight.next(begin, key + kRows)) {
    fill(k, head.k, head.k_step, key, keys, K);
    fill(v, head.v, head.v_step, key, keys, V);
    __syncthreads();
    f(key);
    // all warps have read these keys
    __syncthreads();
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_attention_fwd_kernel(T* o, float* lse, SoftmaxAttentionInputs<T> in) {
  const SoftmaxAttentionSizes& n = in.n;
  const int64_t row = blockIdx.x / n.H, h = blockIdx.x % n.H, query = row * n.T * n.H + h;
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V);
  const int begin = blockIdx.y * kRows, end = std::min(begin + kRows, static_cast<int>(n.T));
  const int lane = threadIdx.x % 32, mine = begin + threadIdx.x / 32 * kMine;
  Memory memory;
  const Rows weights = memory.rows(32), q = memory.rows(K), k = memory.rows(K), v = memory.rows(V),
             out = memory.rows(V);
  clear(out);
  float top[kMine], sum[kMine];
  // finite: a query may see none of the first keys
  for (int r = 0; r < kMine; r++) top[r] = -1e30f, sum[r] = 0;
  each_part(n, [&]<Keys part>(std::integral_constant<Keys, part>) {
    const SoftmaxHead<T, part> head(in, row, h);
    fill(q, head.q, head.q_step, begin, end, K);
    walk(head, k, v, begin, end, K, V, [&](int key) {
      float s[kMine], keep[kMine];
      multiply(s, q, k, K);
      for (int r = 0; r < kMine; r++) {
        s[r] = head.sight.sees(mine + r, key + lane) ? score_of(n, s[r]) : -INFINITY;
        const float highest = fmaxf(top[r], warp_max(s[r]));
        keep[r] = expf(top[r] - highest);
        s[r] = expf(s[r] - highest);
        sum[r] = keep[r] * sum[r] + warp_sum(s[r]);
        top[r] = highest;
      }
      add(out, keep, weights, s, v, V);
    });
  });
  for (int r = 0; r < kMine; r++) {
    if (lane == 0 && mine + r < end) lse[query + (mine + r) * n.H] = top[r] + logf(sum[r]);
    sum[r] = 1 / sum[r];
  }
  store_rows(o + query * n.V, n.H * n.V, out, sum, begin, end, V);
}

// The weights of backward: p, and ds = p (do v - delta), the gradient of the score before its scale.
struct Weights {
  float p[kMine], ds[kMine];
};
// query(r), key(r): the query and the key to which row r and the lane belong.
template <class T, class Head, class Query, class Key>
__device__ static Weights weights_of(const SoftmaxAttentionGradients<T>& grads, const Head& head,
                                     const SoftmaxAttentionSizes& n, const float (&s)[kMine],
                                     const float (&dp)[kMine], Query query, Key key) {
  Weights w;
  for (int r = 0; r < kMine; r++) {
    const int t = query(r);
    const bool seen = head.sight.sees(t, key(r));
    const int64_t at = head.lse + (seen ? t : 0) * n.H;
    const float x = score_of(n, s[r]);
    w.p[r] = seen ? expf(x - grads.lse[at]) : 0;
    w.ds[r] = seen ? w.p[r] * (dp[r] - grads.delta[at]) : 0;
    if (n.cap > 0) w.ds[r] *= n.cap - x * x / n.cap;
  }
  return w;
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_attention_dq_kernel(SoftmaxAttentionGradients<T> grads, SoftmaxAttentionInputs<T> in) {
  const SoftmaxAttentionSizes& n = in.n;
  const int64_t row = blockIdx.x / n.H, h = blockIdx.x % n.H, query = row * n.T * n.H + h;
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V);
  const int begin = blockIdx.y * kRows, end = std::min(begin + kRows, static_cast<int>(n.T));
  const int lane = threadIdx.x % 32, mine = begin + threadIdx.x / 32 * kMine;
  const float ones[kMine] = {1, 1, 1, 1}, scales[kMine] = {n.scale, n.scale, n.scale, n.scale};
  Memory memory;
  const Rows weights = memory.rows(32), q = memory.rows(K), k = memory.rows(K), dq = memory.rows(K),
             v = memory.rows(V), d_o = memory.rows(V);
  fill(d_o, grads.d_o + query * n.V, n.H * n.V, begin, end, V);
  clear(dq);
  each_part(n, [&]<Keys part>(std::integral_constant<Keys, part>) {
    const SoftmaxHead<T, part> head(in, row, h);
    fill(q, head.q, head.q_step, begin, end, K);
    walk(head, k, v, begin, end, K, V, [&](int key) {
      float s[kMine], dp[kMine];
      multiply(s, q, k, K);
      multiply(dp, d_o, v, V);
      const Weights w = weights_of(
          grads, head, n, s, dp, [&](int r) { return mine + r; }, [&](int) { return key + lane; });
      add(dq, ones, weights, w.ds, k, K);
    });
    if (part == Keys::sinks && !grads.dq_sinks) return;
    store_rows((part == Keys::sinks ? grads.dq_sinks : grads.dq) + query * n.K, head.q_step, dq, scales, begin, end, K);
    clear(dq);
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_attention_dkdv_kernel(SoftmaxAttentionGradients<T> grads, SoftmaxAttentionInputs<T> in) {
  const SoftmaxAttentionSizes& n = in.n;
  const int64_t row = blockIdx.x / n.G, family = n.H / n.G, h = blockIdx.x % n.G * family;
  const SoftmaxHead<T> first(in, row, h);
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V), S = static_cast<int>(n.S);
  const int begin = blockIdx.y * kRows, end = begin + kRows < S ? begin + kRows : S;
  const int lane = threadIdx.x % 32, mine = begin + threadIdx.x / 32 * kMine;
  const float ones[kMine] = {1, 1, 1, 1}, scales[kMine] = {n.scale, n.scale, n.scale, n.scale};
  Memory memory;
  const Rows weights = memory.rows(32), k = memory.rows(K), q = memory.rows(K), dk = memory.rows(K),
             v = memory.rows(V), d_o = memory.rows(V), dv = memory.rows(V);
  fill(k, first.k, first.k_step, begin, end, K);
  fill(v, first.v, first.v_step, begin, end, V);
  clear(dk), clear(dv);
  each_part(n, [&]<Keys part>(std::integral_constant<Keys, part>) {
    const Sight<part> sight = SoftmaxHead<T, part>(in, row, h).sight;
    const int t_begin = sight.begin_of(begin), t_end = sight.end_of(end - 1);
    for (int64_t i = 0; i < family; i++) {
      const SoftmaxHead<T, part> head(in, row, h + i);
      for (int t = t_begin; t < t_end; t += kRows) {
        __syncthreads();
        fill(q, head.q, head.q_step, t, t_end, K);
        fill(d_o, grads.d_o + head.o, head.o_step, t, t_end, V);
        __syncthreads();
        float s[kMine], dp[kMine];
        multiply(s, k, q, K);
        multiply(dp, v, d_o, V);
        const Weights w = weights_of(
            grads, head, n, s, dp, [&](int) { return t + lane; }, [&](int r) { return mine + r; });
        add(dv, ones, weights, w.p, d_o, V);
        add(dk, ones, weights, w.ds, q, K);
      }
    }
  });
  store_rows(grads.dk + first.k_at, first.k_step, dk, scales, begin, end, K);
  store_rows(grads.dv + first.v_at, first.v_step, dv, ones, begin, end, V);
}

// delta (rows) = do o - dlse. A warp takes a row.
template <class T>
__global__ void __launch_bounds__(kThreads, 1)
    softmax_attention_delta_kernel(float* delta, const T* d_o, const T* o, const float* dlse, int64_t rows, int64_t V) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  float sum = 0;
  for (int64_t i = threadIdx.x % 32; row < rows && i < V; i += 32)
    sum += to_float(d_o[row * V + i]) * to_float(o[row * V + i]);
  sum = warp_sum(sum);
  if (row < rows && threadIdx.x % 32 == 0) delta[row] = sum - (dlse ? dlse[row] : 0);
}

template <class T>
void softmax_attention_fwd(T* o, float* lse, const SoftmaxAttentionInputs<T>& in) {
  const SoftmaxAttentionSizes& n = in.n;
  if constexpr (std::is_same_v<T, Bf16>) {
    if (softmax_attention_fwd_mma(o, lse, in)) return;
  }
  launch<softmax_attention_fwd_kernel<T>>(
      {{blocks(n.B * n.H, 1), blocks(n.T, kRows)}, kThreads, bytes(2, n.K, 2, n.V)}, o, lse, in);
}

template <class T>
void softmax_attention_bwd(T* dq, T* dq_sinks, T* dk, T* dv, const T* d_o, const float* dlse, const T* o,
                           const float* lse, const SoftmaxAttentionInputs<T>& in) {
  const SoftmaxAttentionSizes& n = in.n;
  const Tensor memory = Tensor::empty({n.B, n.T, n.H}, Dtype::f32, Device::cuda);
  float* const delta = memory.data<float>(Device::cuda);
  launch<softmax_attention_delta_kernel<T>>({blocks(n.B * n.T * n.H, kWarps), kThreads}, delta, d_o, o,
                                            dlse, n.B * n.T * n.H, n.V);
  const SoftmaxAttentionGradients<T> grads = {dq, dq_sinks, dk, dv, d_o, lse, delta};
  if constexpr (std::is_same_v<T, Bf16>) {
    if (softmax_attention_bwd_mma(grads, in)) return;
  }
  launch<softmax_attention_dq_kernel<T>>(
      {{blocks(n.B * n.H, 1), blocks(n.T, kRows)}, kThreads, bytes(3, n.K, 2, n.V)}, grads, in);
  launch<softmax_attention_dkdv_kernel<T>>(
      {{blocks(n.B * n.G, 1), blocks(n.S, kRows)}, kThreads, bytes(3, n.K, 3, n.V)}, grads, in);
}

template decltype(softmax_attention_fwd<float>) softmax_attention_fwd<float>;
template decltype(softmax_attention_fwd<Bf16>) softmax_attention_fwd<Bf16>;
template decltype(softmax_attention_bwd<float>) softmax_attention_bwd<float>;
template decltype(softmax_attention_bwd<Bf16>) softmax_attention_bwd<Bf16>;

}  // namespace supra::cuda
