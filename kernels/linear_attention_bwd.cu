#include "kernels/linear_attention.cuh"
#include "kernels/rows.cuh"
#include "tensor/tensor.h"

// The gradients of linear attention: three sweeps (linear_attention.cuh) for dq, dk and dv, and sums after them, in a fixed
// order. The forward saved no states: the sweep of dq computes S again.
//
// If query heads share a head of k or v, each writes a gradient of its own, and sum_heads() adds them. The gradient of the
// decays follows from dq and dk. If n is the last step of a document, and dS_n the gradient of the state that leaves it, then
//
//   d log g_t = <S_n, dS_n> + sum over u >= t of (q_u dq_u - k_u dk_u)
//
// The sweeps have already written the products q_u dq_u and k_u dk_u (Sweep::dots), so memory bounds the kernel that adds them.

namespace supra::cuda {

constexpr int kThreads = 256;

// d log g from the dots of the sweeps: those of forward sweeps (q dq) are added, those of backward sweeps (k dk) subtracted. A
// block takes one head of one document and walks from its end, 256 steps at a time, one step a thread. Result: by_step (B,T,H),
// or its sum over the steps: sums (documents,H).
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
  // the sum over all steps behind those of this turn
  double after = team_sum(product, scratch), total = 0;
  // true if no state comes into the document: its first decay then multiplies zeros
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
    x = warp_prefix_sum(x);
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

template <class T>
void decay_gradient(float* dlog_decay, const float* last_state, int64_t parts, const Sweeps<T>& sweeps) {
  const bool by_token = sweeps.decay_by_token;
  const int64_t heads = sweeps.document_count * sweeps.heads;
  const Tensor memory = by_token ? Tensor() : Tensor::empty({heads}, Dtype::f32, Device::cuda);
  float* const sums = data_or_null<float>(memory, Device::cuda);
  launch<decay_gradient_kernel<T>>({blocks(heads, 1), kThreads, kThreads / 32 * sizeof(float)},
                                   by_token ? dlog_decay : nullptr, sums, last_state, parts, sweeps);
  if (!by_token) sum_heads<float>(dlog_decay, sums, 1, sweeps.document_count, sweeps.heads);
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
  // the kernel without tensor cores has the most parts: one for each block along K
  const int64_t most_parts = blocks(K, 32);
  if (grads.dlog_decay) dots = Tensor::empty({2, most_parts, rows}, Dtype::f32, Device::cuda);
  float* const q_dq = data_or_null<float>(dots, Device::cuda);
  float* const k_dk = q_dq ? q_dq + most_parts * rows : nullptr;
  const SharedGradient<T> dk(grads.dk, n, n.Gk, K), dv(grads.dv, n, n.Gv, V);
  const Operand<const T> q = q_of(in), k = k_of(in), v = v_of(in), dy = by_head(d_o, n.H, V);

  const Sweep<T> sweep_q = {.K = V, .V = K, .o = by_head(grads.dq, n.H, K, q.turned), .q = dy, .k = v, .v = k,
                            .in_scale = n.scale, .first = in.state, .transposed = true,
                            .factor = q, .dots = q_dq, .masked = in.of_relu};
  const Sweep<T> sweep_k = {.K = V, .V = K, .o = dk.operand(0, k.turned), .q = v, .k = dy, .v = q,
                            .backwards = true, .out_scale = n.scale, .first = d_last, .transposed = true,
                            .factor = k, .dots = k_dk, .masked = in.of_relu};
  const Sweep<T> sweep_v = {.K = K, .V = V, .o = dv.operand(), .q = k, .k = q, .v = dy,
                            .backwards = true, .out_scale = n.scale, .first = d_last, .last = grads.dstate};
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

template void decay_gradient(float*, const float*, int64_t, const Sweeps<float>&);
template void decay_gradient(float*, const float*, int64_t, const Sweeps<Bf16>&);
template void linear_attention_bwd(const LinearAttentionGrads<float>&, const float*, const float*,
                                   const float*, const float*, const float*,
                                   const LinearAttentionInputs<float>&);
template void linear_attention_bwd(const LinearAttentionGrads<Bf16>&, const Bf16*, const float*, const Bf16*,
                                   const float*, const float*, const LinearAttentionInputs<Bf16>&);

}  // namespace supra::cuda
