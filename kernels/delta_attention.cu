#include "kernels/linear_attention_chunk.cuh"
#include "kernels/rows.cuh"

// The gated delta rule on the GPU. If every u_t = beta_t e_t is known, o is linear attention with u as its values. So the rule
// needs a kernel that multiplies by beta, and one that solves for
//
//   e_t = v_t - S^T k_t   with   S = g S + k u^T,  S as it is before step t adds to it
//
// Everything else is sweeps (linear_attention.cuh). q, k (B,T,H,K)  v, e, u (B,T,H,V)  beta (B,T,H)  S (B,H,K,V). The gradient
// of u is also such a solve, backwards in time. Its values x are the gradient of v in linear attention, x_t = sum over s >= t
// of (decay) q_s do_s k_t, and it writes z = dv = beta du:
//
//   du_t = x_t - R^T k_t   with   R = g R + k z^T
//   dq = do (k u)^T        dk = u (q do)^T - u (k z)^T - z (k u)^T, the last two without a step's own pair
//   d beta_t = du_t e_t    d log g: as in linear_attention_bwd.cu, where the dots of -z (k u)^T are added like those of dq
//
// x_t and R^T k_t are computed apart and then subtracted, although in one state they would cancel step by step. Without decay
// both grow with the square root of the number of steps, and so do their rounding errors: to 1e-5 of the gradients after 4,096
// steps in f32, and to 5e-5 of the gradients of the decays.

namespace supra::cuda {

namespace {

// The solve without tensor cores: the sweep's o becomes v + out_scale S^T k, where S is the state before the step, and S = g S
// + in_scale k (beta o)^T. One of the scales is -1. In a chunk this is a triangular system with A_ij = D_ij k_i k_j below the
// diagonal. It is solved in the order of the steps, so its errors grow no faster than those of the recurrence: the warps take
// four steps each, one warp after the other, and the later ones add what the earlier ones wrote. A block takes 32 columns of V
// (linear_attention_chunk.cuh). Latency bounds it: the warps of a block wait for one another eight times a chunk.
template <class T>
__global__ void __launch_bounds__(kWarps * 32) solve_kernel(const __grid_constant__ Sweeps<T> sweeps) {
  const Head<T> head(sweeps, blockIdx.x);
  const Sweep<T>& sweep = head.sweep;
  const ChunkBlock<T> block(head);
  const ChunkMemory& m = block.m;
  const int lane = block.lane, warp = block.warp, first_row = warp * kEach;
  if (block.idle()) return;
  block.take_state();
  for (int c = 0; c < head.chunks(kChunk); c++) {
    const auto chunk = head.chunk(c, kChunk);
    block.take_chunk(chunk);
    float weight[kEach] = {}, before[kEach] = {}, error[kEach];
    for (int slice = 0; slice < block.slices; slice++) {
      block.take_slice(m.k, sweep.k, chunk, slice);
      __syncthreads();
      block.meet(weight, before, m.k, slice, first_row, 1);
      // all warps have read this slice of k
      __syncthreads();
    }
    for (int e = 0; e < kEach; e++) {
      const int i = first_row + e;
      m.p[i * 32 + lane] = lane < i ? sweep.in_scale * sweep.out_scale * block.between(i) * weight[e] : 0;
      error[e] = m.v[i * 32 + lane] + sweep.out_scale * block.since_chunk(i) * before[e];
    }
    // only the warp reads its own rows of p; its rows of v become u
    __syncwarp();
    for (int w = 0; w < kWarps; w++) {
      for (int e = 0; e < kEach && w == warp; e++) {
        const int i = first_row + e;
        for (int j = first_row; j < i; j++) error[e] += m.p[i * 32 + j] * m.v[j * 32 + lane];
        const int64_t token = head.token(chunk.step(i));
        const bool there = i < chunk.rows;
        if (there && block.live) store_1(sweep.o.at(token, head.h) + block.column, error[e]);
        m.v[i * 32 + lane] = there ? sweeps.beta[token * sweeps.heads + head.h] * error[e] : 0;
      }
      __syncthreads();
      for (int e = 0; e < kEach && w < warp; e++) {
        for (int j = w * kEach; j < (w + 1) * kEach; j++) error[e] += m.p[(first_row + e) * 32 + j] * m.v[j * 32 + lane];
      }
    }
    for (int slice = 0; slice < block.slices; slice++) {
      block.take_slice(m.k, sweep.k, chunk, slice);
      __syncthreads();
      block.add_values(slice);
      // no warp reads this slice of k any more
      __syncthreads();
    }
  }
  head.blank_rest(block.first_column, std::min(block.first_column + 32, sweep.V));
  block.give_state();
}

// u = beta e; if du is given, also z = beta du and dbeta = <du, e>. A team of threads takes a row of V. Memory bounds it.
template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    written_kernel(T* u, T* z, float* dbeta, const T* e, const T* du, const float* beta, int64_t N, int64_t V) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.y + threadIdx.y, begin = row * V;
  const float factor = row < N ? beta[row] : 0;
  float product = 0;
  for (int64_t i = row < N ? threadIdx.x : V; i < V; i += blockDim.x) {
    const float error = to_float(e[begin + i]);
    // behind a document's end e is zero, and beta may be NaN
    store_1(u + begin + i, error != 0 ? factor * error : 0);
    if (!du) continue;
    const float slope = to_float(du[begin + i]);
    store_1(z + begin + i, slope != 0 ? factor * slope : 0);
    product += slope * error;
  }
  if (!du) return;
  product = team_sum(product, shared_memory<float>());
  if (row < N && threadIdx.x == 0) dbeta[row] = product;
}

template <class T>
void written(T* u, T* z, float* dbeta, const T* e, const T* du, const float* beta, const LinearAttentionSizes& n) {
  const dim3 block = teams(n.V);
  const int64_t rows = n.B * n.T * n.H;
  launch<written_kernel<T>>({blocks(rows, block.y), block, kTeamScratch}, u, z, dbeta, e, du, beta, rows, n.V);
}

template <class T>
void solve(const LinearAttentionInputs<T>& in, Sweep<T> sweep, const float* beta) {
  Sweeps<T> all(in);
  sweep.strict = true;
  all.add(sweep);
  all.beta = beta;
  all.segment_chunks = static_cast<int>(blocks(in.n.T, kChunk));
  if constexpr (std::is_same_v<T, Bf16>) {
    if (mma_can(all)) return sweep_mma(all);
  }
  const dim3 grid = {blocks(all.blocks_to_do(), 1), blocks(sweep.V, 32)};
  launch<solve_kernel<T>>({grid, kWarps * 32, ChunkMemory::bytes(sweep.K)}, all);
}

template <class T>
Tensor like_o(const LinearAttentionSizes& n) {
  return Tensor::empty({n.B, n.T, n.H, n.V}, dtype_of<T>(), Device::cuda);
}

}  // namespace

template <class T>
void delta_attention_fwd(T* o, T* errors, float* last_state, const LinearAttentionInputs<T>& in, const float* beta) {
  const LinearAttentionSizes& n = in.n;
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V);
  const Tensor memory = like_o<T>(n);
  T* const u = memory.data<T>(Device::cuda);
  solve<T>(in,
           {.K = K, .V = V, .o = by_head(errors, n.H, V), .q = {}, .k = k_of(in), .v = v_of(in), .out_scale = -1,
            .first = in.state, .last = last_state},
           beta);
  written<T>(u, nullptr, nullptr, errors, nullptr, beta, n);
  Sweeps<T> sweeps(in);
  sweeps.add({.K = K, .V = V, .o = by_head(o, n.H, V), .q = q_of(in), .k = k_of(in), .v = by_head<const T>(u, n.H, V), .first = in.state});
  sweep(sweeps);
}

template <class T>
void delta_attention_bwd(const LinearAttentionGrads<T>& grads, float* dbeta, const T* d_o, const float* d_last, const T* errors,
                         const float* last_state, const LinearAttentionInputs<T>& in, const float* beta) {
  const LinearAttentionSizes& n = in.n;
  const int K = static_cast<int>(n.K), V = static_cast<int>(n.V);
  const int64_t rows = n.B * n.T * n.H, state = n.B * n.H * K * V;
  const SharedGradient<T> dk(grads.dk, n, n.Gk, K, 3), dv(grads.dv, n, n.Gv, V);
  const Tensor x = like_o<T>(n), du = like_o<T>(n), of_u = like_o<T>(n);
  const Tensor behind = grads.dstate ? Tensor::empty({state}, Dtype::f32, Device::cuda) : Tensor();
  T* const u_at = of_u.data<T>(Device::cuda);
  const Operand<const T> q = q_of(in), k = k_of(in), dy = by_head(d_o, n.H, V), z = by_head<const T>(dv.by_head(), n.H, V);
  const Operand<const T> u = by_head<const T>(u_at, n.H, V);

  Sweeps<T> of_x(in);
  of_x.add({.K = K, .V = V, .o = by_head(x.data<T>(Device::cuda), n.H, V), .q = k, .k = q, .v = dy, .backwards = true,
            .first = d_last, .last = grads.dstate});
  sweep(of_x);
  float* const last = data_or_null<float>(behind, Device::cuda);
  solve<T>(in,
           {.K = K, .V = V, .o = by_head(du.data<T>(Device::cuda), n.H, V), .q = {}, .k = k,
            .v = by_head<const T>(x.data<T>(Device::cuda), n.H, V), .backwards = true, .in_scale = -1, .last = last},
           beta);
  if (last) add(grads.dstate, grads.dstate, last, state);
  written<T>(u_at, dv.by_head(), dbeta, errors, du.data<T>(Device::cuda), beta, n);
  dv.add_up();

  const int64_t most_parts = blocks(K, 32);
  const Tensor dots = grads.dlog_decay ? Tensor::empty({4, most_parts, rows}, Dtype::f32, Device::cuda) : Tensor();
  Sweeps<T> sweeps(in);
  const auto add_sweep = [&](Sweep<T> s) {
    s.transposed = true;
    s.dots = dots.defined() ? dots.data<float>(Device::cuda) + sweeps.count * most_parts * rows : nullptr;
    sweeps.add(s);
  };
  add_sweep({.K = V, .V = K, .o = by_head(grads.dq, n.H, K), .q = dy, .k = u, .v = k, .first = in.state, .factor = q});
  add_sweep({.K = V, .V = K, .o = dk.operand(0), .q = u, .k = dy, .v = q, .backwards = true, .first = d_last, .factor = k});
  add_sweep({.K = V, .V = K, .o = dk.operand(1), .q = u, .k = z, .v = k, .backwards = true, .out_scale = -1, .factor = k, .strict = true});
  add_sweep({.K = V, .V = K, .o = dk.operand(2), .q = z, .k = u, .v = k, .out_scale = -1, .first = in.state, .factor = k, .strict = true});
  const int64_t parts = sweep(sweeps);
  dk.add_up();
  if (grads.dlog_decay) decay_gradient(grads.dlog_decay, last_state, parts, sweeps);
}

template void delta_attention_fwd(float*, float*, float*, const LinearAttentionInputs<float>&, const float*);
template void delta_attention_fwd(Bf16*, Bf16*, float*, const LinearAttentionInputs<Bf16>&, const float*);
template void delta_attention_bwd(const LinearAttentionGrads<float>&, float*, const float*, const float*, const float*, const float*,
                                  const LinearAttentionInputs<float>&, const float*);
template void delta_attention_bwd(const LinearAttentionGrads<Bf16>&, float*, const Bf16*, const float*, const Bf16*, const float*,
                                  const LinearAttentionInputs<Bf16>&, const float*);

}  // namespace supra::cuda
