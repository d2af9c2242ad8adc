#include "kernels/linear_attention.cuh"
#include "kernels/rows.cuh"
#include "tensor/tensor.h"

// The gradients of linear attention: three sweeps (linear_attention.cuh), and what has to be added up after
// them in an order of its own. Nothing was saved by the forward: the sweep of dq builds S anew.
//
// Where heads share a head of k or v, each writes a gradient of its own, and these are added head by head.
// The decays' gradients follow from the others. With n the last step of a document, and dS_n the gradient of
// the state that comes out,
//
//   d log g_t = <S_n, dS_n> + sum over u >= t of (q_u dq_u - k_u dk_u)

namespace supra::cuda {

constexpr int kThreads = 256;

// sum (N,D): row i is the sum of rows i * sharing ... of x, in order
template <class T, int W>
__global__ void __launch_bounds__(kThreads)
    add_shared_kernel(T* sum, const T* x, int64_t N, int64_t sharing, int64_t D) {
  const int64_t at = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * W;
  if (at >= N * D) return;
  x += at / D * sharing * D + at % D;
  float total[W] = {};
  for (int64_t i = 0; i < sharing; i++) {
    float a[W];
    load(a, x + i * D);
    for (int e = 0; e < W; e++) total[e] += a[e];
  }
  store(sum + at, total);
}

template <class T>
void add_shared(T* sum, const T* x, int64_t N, int64_t sharing, int64_t D) {
  const auto go = [&]<int W>(std::integral_constant<int, W>) {
    launch<add_shared_kernel<T, W>>({blocks(N * D, kThreads * W), kThreads}, sum, x, N, sharing, D);
  };
  fits_vectors(D, sum, x) ? go(std::integral_constant<int, 4>()) : go(std::integral_constant<int, 1>());
}

// After the sweeps of dq and dk, whose dots are q dq and k dk: what forwards sweeps read counts, what backwards sweeps say of
// what was written is taken off. A block takes one head of one document and walks from its end, 256 steps a turn. by_step
// (B,T,H), or the sum of all steps: sums (documents,H).
template <class T>
__global__ void __launch_bounds__(kThreads)
    decay_gradient_kernel(float* by_step, float* sums, const float* last_state, int64_t parts,
                          const __grid_constant__ Sweeps<T> sweeps) {
  float* const scratch = shared_memory<float>();
  const Sweep<T>&of_q = sweeps.each[0], &of_k = sweeps.each[1];
  const Head<T> head(sweeps, int64_t{blockIdx.x} * sweeps.count + 1);
  const LinearAttentionDocument& document = head.document;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const auto at = [&](int64_t t) { return head.token(t) * sweeps.heads + head.h; };
  float product = 0;
  const State S = head.row_state(last_state), dS = head.first();
  const int64_t size = dS.data ? int64_t{of_k.K} * of_k.V : 0;
  for (int64_t i = threadIdx.x; i < size; i += kThreads) product += S.data[i] * dS.data[i];
  // of all steps that were passed
  double after = team_sum(product, scratch), total = 0;
  // no state comes into the document
  const bool alone = document.begin > 0 || !of_q.first;
  for (int64_t end = document.end; end > document.begin; end -= kThreads) {
    const int64_t t = end - 1 - threadIdx.x;
    float x = 0;
    if (t >= document.begin) {
      for (int64_t part = 0; part < parts; part++) {
        for (int s = 0; s < sweeps.count; s++) {
          const Sweep<T>& sweep = sweeps.each[s];
          if (!sweep.dots) continue;
          const float dot = sweep.dots[part * sweeps.tokens * sweeps.heads + at(t)];
          x += sweep.backwards ? -dot : dot;
        }
      }
    }
    for (int by = 1; by < 32; by *= 2) {
      const float left = __shfl_up_sync(kWholeWarp, x, by);
      if (lane >= by) x += left;
    }
    if (lane == 31) scratch[warp] = x;
    __syncthreads();
    double slope = after + x;
    for (int w = 0; w < kThreads / 32; w++) {
      if (w < warp) slope += scratch[w];
      after += scratch[w];
    }
    __syncthreads();
    if (t < document.begin) continue;
    if (alone && t == document.begin) slope = 0;
    if (by_step) by_step[at(t)] = static_cast<float>(slope);
    total += slope;
  }
  if (by_step) {
    for (int64_t t = document.end + threadIdx.x; t < document.stop; t += kThreads) by_step[at(t)] = 0;
  } else {
    const float sum = team_sum(static_cast<float>(total), scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}

// total (H): the sum over the rows of sums (documents,H), in order
__global__ static void add_documents_kernel(float* total, const float* sums, int64_t documents, int64_t H) {
  const int64_t h = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (h >= H) return;
  float sum = 0;
  for (int64_t d = 0; d < documents; d++) sum += sums[d * H + h];
  total[h] = sum;
}

template <class T>
void decay_gradient(float* dlog_decay, const float* last_state, int64_t parts, const Sweeps<T>& sweeps) {
  const bool by_token = sweeps.decay_by_token;
  const int64_t heads = sweeps.document_count * sweeps.heads;
  const Tensor memory = by_token ? Tensor() : Tensor::empty({heads}, Dtype::f32, Device::cuda);
  float* const sums = by_token ? nullptr : memory.data<float>(Device::cuda);
  launch<decay_gradient_kernel<T>>({blocks(heads, 1), kThreads, kThreads / 32 * sizeof(float)},
                                   by_token ? dlog_decay : nullptr, sums, last_state, parts, sweeps);
  if (by_token) return;
  launch<add_documents_kernel>({blocks(sweeps.heads, kThreads), kThreads}, dlog_decay, sums,
                               sweeps.document_count, sweeps.heads);
}

template <class T>
void linear_attention_bwd(const LinearAttentionGrads<T>& grads, const T* d_o, const float* d_last, const T* o,
                          const float* rstd, const float* last_state, const LinearAttentionInputs<T>& in) {
  const LinearAttentionSizes& n = in.n;
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V);
  const int64_t rows = n.B * n.T * n.H;
  Tensor before_norm, dots;
  if (rstd) {
    before_norm = Tensor::empty({rows, n.V}, dtype_of<T>(), Device::cuda);
    groupnorm_bwd(before_norm.data<T>(Device::cuda), d_o, o, rstd, rows, n.V);
    d_o = before_norm.data<T>(Device::cuda);
  }
  // at most as many parts as the kernel without tensor cores has blocks along K
  const int64_t most_parts = blocks(K, 32);
  if (grads.dlog_decay) dots = Tensor::empty({2, most_parts, rows}, Dtype::f32, Device::cuda);
  float* const q_dq = grads.dlog_decay ? dots.data<float>(Device::cuda) : nullptr;
  float* const k_dk = grads.dlog_decay ? q_dq + most_parts * rows : nullptr;
  const SharedGradient<T> dk(grads.dk, n, n.Gk, K), dv(grads.dv, n, n.Gv, V);
  const Operand<const T> q = q_of(in), k = k_of(in), v = v_of(in), dy = by_head(d_o, n.H, V);

  const Sweep<T> sweep_q = {.K = V,
                            .V = K,
                            .o = by_head(grads.dq, n.H, K, q.turned),
                            .q = dy,
                            .k = v,
                            .v = k,
                            .in_scale = n.scale,
                            .first = in.state,
                            .transposed = true,
                            .factor = q,
                            .dots = q_dq,
                            .masked = in.of_relu};
  const Sweep<T> sweep_k = {.K = V,
                            .V = K,
                            .o = dk.operand(0, k.turned),
                            .q = v,
                            .k = dy,
                            .v = q,
                            .backwards = true,
                            .out_scale = n.scale,
                            .first = d_last,
                            .transposed = true,
                            .factor = k,
                            .dots = k_dk,
                            .masked = in.of_relu};
  const Sweep<T> sweep_v = {.K = K,
                            .V = V,
                            .o = dv.operand(),
                            .q = k,
                            .k = q,
                            .v = dy,
                            .backwards = true,
                            .out_scale = n.scale,
                            .first = d_last,
                            .last = grads.dstate};
  Sweeps<T> sweeps(in), of_v(in);
  sweeps.add(sweep_q);
  sweeps.add(sweep_k);
  (K == V ? sweeps : of_v).add(sweep_v);
  const int64_t parts = sweep(sweeps);
  if (of_v.count) sweep(of_v);
  dk.add_up();
  dv.add_up();
  if (grads.dlog_decay) decay_gradient(grads.dlog_decay, last_state, parts, sweeps);
}

template void add_shared(float*, const float*, int64_t, int64_t, int64_t);
template void add_shared(Bf16*, const Bf16*, int64_t, int64_t, int64_t);
template void decay_gradient(float*, const float*, int64_t, const Sweeps<float>&);
template void decay_gradient(float*, const float*, int64_t, const Sweeps<Bf16>&);
template void linear_attention_bwd(const LinearAttentionGrads<float>&, const float*, const float*,
                                   const float*, const float*, const float*,
                                   const LinearAttentionInputs<float>&);
template void linear_attention_bwd(const LinearAttentionGrads<Bf16>&, const Bf16*, const float*, const Bf16*,
                                   const float*, const float*, const LinearAttentionInputs<Bf16>&);

}  // namespace supra::cuda
