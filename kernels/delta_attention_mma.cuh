#pragma once
#include "kernels/linear_attention_tiles.cuh"

// The delta rule's solve on tensor cores: the part of linear_attention_mma.cu that a chunk of delta_attention.cu needs. The products
// of linear attention are used with K in place of Q. The solve starts with X = V + lambda K S (64,V):
//
//   E = X + P U,  U = diag(beta) E,  P below its diagonal
//
// That is a triangular system. It is solved in four steps of 16 rows: rows r of E are T_r (X_r + the sum of P_rs U_s over the
// rows s before them), where T_r is the inverse of 1 - P_rr diag(beta), 16 x 16. Four warps, one for each r, make the T_r by
// substitution in registers, in f32. U takes V's place.

namespace supra::cuda {

// P, 16 x 16 below its diagonal, becomes the inverse of 1 - P diag(beta), less 1.
__device__ inline void invert(float (&P)[2][4], const float* beta, const Place& at) {
  float T[2][4];
#pragma unroll
  for (int e = 0; e < 8; e++) {
    const int half = e / 2 % 2, j = e / 4 * 8 + at.pair + e % 2;
    T[e / 4][e % 4] = j == at.lane / 4 + 8 * half ? 1 : 0;
    P[e / 4][e % 4] *= beta[j];
  }
  // Once row i is final, the rows below add their multiple of it. The loop over i stays a loop: unrolled, it would need more
  // registers than there are.
#pragma unroll
  for (int upper = 0; upper < 2; upper++) {
#pragma unroll 1
    for (int i = 0; i < 8; i += 2) {
#pragma unroll
      for (int odd = 0; odd < 2; odd++) {
        float row[4], factor[2];
        for (int e = 0; e < 4; e++)
          row[e] = __shfl_sync(kWholeWarp, T[e / 2][upper * 2 + e % 2], (i + odd) * 4 + at.lane % 4);
        for (int half = 0; half < 2; half++)
          factor[half] = __shfl_sync(kWholeWarp, P[upper][2 * half + odd], at.lane / 4 * 4 + i / 2);
        for (int e = 0; e < 8; e++) T[e / 4][e % 4] += factor[e / 2 % 2] * row[e / 4 * 2 + e % 2];
      }
    }
  }
#pragma unroll
  for (int e = 0; e < 8; e++) {
    const int half = e / 2 % 2, j = e / 4 * 8 + at.pair + e % 2;
    P[e / 4][e % 4] = T[e / 4][e % 4] - (j == at.lane / 4 + 8 * half);
  }
}

// O += the thread's elements of a tile
template <int V>
__device__ __forceinline__ void add_tile(float (&O)[V / 32][4], Tile<V> v, const Place& at) {
#pragma unroll
  for (int half = 0; half < 2; half++) {
#pragma unroll
    for (int n = 0; n < V / 32; n++) {
      const uint32_t x = vector_at<uint32_t>(v.at(at.rows[half], at.column * (V / 4) + at.pair + 8 * n));
      O[n][2 * half] += low_bf16(x), O[n][2 * half + 1] += high_bf16(x);
    }
  }
}

// O, which is X, becomes E, also in `out`, and v becomes U. Diagonal blocks of the weights are the T_r less 1. The rows of one
// r are solved by one row of warps; those below wait for it.
template <int V>
__device__ void substitute(float (&O)[V / 32][4], Tile<V> out, Tile<V> v, Tile<kChunk> weights, const float* beta,
                           const Place& at) {
  const int first_column = at.column * (V / 4);
  for (int r = 0; r < kChunk; r += 16) {
    uint32_t a[4];
    if (at.row >= r) load_a(a, weights, at.row, r, at.lane);
    if (at.row == r) {
      store_product(out, O, first_column, at);
      __syncwarp();
      multiply(O, a, out, r, first_column, at.lane);
      // the warp has read X
      __syncwarp();
      store_product(out, O, first_column, at);
      store_product(v, O, first_column, at, beta[at.rows[0]], beta[at.rows[1]]);
    }
    __syncthreads();
    if (at.row > r) multiply(O, a, v, r, first_column, at.lane);
  }
}

}  // namespace supra::cuda
