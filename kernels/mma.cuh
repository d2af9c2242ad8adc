#pragma once
#include "tensor/cuda.cuh"

// Products of small matrices by a warp on tensor cores, and what feeds them. C (16,8) += A (16,16) B (16,8),
// bf16 with sums in f32 (PTX ISA, mma.sync.m16n8k16). Of each matrix lane l holds, with g = l / 4 and t = l %
// 4:
//
//   A  pairs (g, 2t..2t+1)  (g+8, 2t..)  (g, 2t+8..)  (g+8, 2t+8..)
//   B  pairs (2t..2t+1, g)  (2t+8.., g)
//   C  (g, 2t)  (g, 2t+1)  (g+8, 2t)  (g+8, 2t+1)
//
// The lower half of a pair holds the lower index.

namespace supra::cuda {

#if defined(__CUDACC__)
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Four matrices of 8 x 8 bf16 from shared memory. Lanes 8i to 8i+7 bring the addresses of the rows of matrix
// i, each a multiple of 16 bytes; lane l gets the pair (g, 2t..2t+1) of every matrix, or (2t..2t+1, g) of
// each transposed.
__device__ inline void load_matrices(uint32_t (&m)[4], const Bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ inline void load_matrices_transposed(uint32_t (&m)[4], const Bf16* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(static_cast<uint32_t>(__cvta_generic_to_shared(row)))
               : "memory");
}

// Starts a copy of 16 bytes to shared memory, or of 16 zeros: then `from` is not read. Both addresses are
// multiples of 16. Copies are committed in groups; a wait leaves at most so many of the thread's latest
// groups under way. Other threads see the bytes after a barrier that follows the wait.
__device__ inline void copy_async_16(void* to, const void* from, bool zeros) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(
                   static_cast<uint32_t>(__cvta_generic_to_shared(to))),
               "l"(from), "r"(zeros ? 0 : 16)
               : "memory");
}
__device__ inline void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int groups_left>
__device__ void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(groups_left) : "memory");
}
#else
void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);
void load_matrices(uint32_t (&m)[4], const Bf16* row);
void load_matrices_transposed(uint32_t (&m)[4], const Bf16* row);
void copy_async_16(void* to, const void* from, bool zeros);
void copy_async_commit();
void copy_async_wait(int groups_left);
template <int groups_left>
void copy_async_wait() {
  copy_async_wait(groups_left);
}
#endif

// A matrix in shared memory, row by row. Rows of 16n + 16 bytes, n odd or not, put eight rows of a load into
// different banks when the pitch is columns + 8.
template <int kColumns>
struct Tile {
  static constexpr int kWidth = kColumns, kPitch = kColumns + 8;

  Bf16* elements;

  __device__ Bf16* at(int row, int column) const { return elements + row * kPitch + column; }
  static constexpr int size(int rows) { return rows * kPitch; }
};

// Starts the copy of so many rows that lie `step` elements apart, and of zeros for the others up to kRows, by a
// block of kThreads.
template <int kRows, int kThreads, int kColumns>
__device__ void copy_rows(Tile<kColumns> to, const Bf16* from, int64_t step, int64_t rows) {
  constexpr int kPieces = kColumns / 8;
  for (int i = threadIdx.x; i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, column = i % kPieces * 8;
    const bool live = row < rows;
    copy_async_16(to.at(row, column), from + (live ? row * step + column : 0), !live);
  }
}

// a = X[m..m+15][k..k+15], or the same of X^T where X holds k by m
template <int kColumns>
__device__ void load_a(uint32_t (&a)[4], Tile<kColumns> x, int m, int k, int lane) {
  load_matrices(a, x.at(m + lane % 16, k + lane / 16 * 8));
}
template <int kColumns>
__device__ void load_a_of_transposed(uint32_t (&a)[4], Tile<kColumns> x, int m, int k, int lane) {
  load_matrices_transposed(a, x.at(k + lane % 8 + lane / 16 * 8, m + lane / 8 % 2 * 8));
}

// Two B side by side, b[0..1] and b[2..3]: X[k..k+15][n..n+15], or the same of X^T where X holds n by k
template <int kColumns>
__device__ void load_b(uint32_t (&b)[4], Tile<kColumns> x, int k, int n, int lane) {
  load_matrices_transposed(b, x.at(k + lane % 16, n + lane / 16 * 8));
}
template <int kColumns>
__device__ void load_b_of_transposed(uint32_t (&b)[4], Tile<kColumns> x, int k, int n, int lane) {
  load_matrices(b, x.at(n + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
}

// c (16, 8 kTiles) += a X[k..k+15][n..]
template <int kTiles, int kColumns>
__device__ void multiply(float (&c)[kTiles][4], const uint32_t (&a)[4], Tile<kColumns> x, int k, int n,
                         int lane) {
#pragma unroll
  for (int tile = 0; tile < kTiles; tile += 2) {
    uint32_t b[4];
    load_b(b, x, k, n + tile * 8, lane);
    mma(c[tile], a, b[0], b[1]);
    mma(c[tile + 1], a, b[2], b[3]);
  }
}

// c (16, 8 kTiles) += a X^T, where X holds n by k, from column k on
template <int kTiles, int kColumns>
__device__ void multiply_by_transposed(float (&c)[kTiles][4], const uint32_t (&a)[4], Tile<kColumns> x, int k,
                                       int lane) {
#pragma unroll
  for (int tile = 0; tile < kTiles; tile += 2) {
    uint32_t b[4];
    load_b_of_transposed(b, x, k, tile * 8, lane);
    mma(c[tile], a, b[0], b[1]);
    mma(c[tile + 1], a, b[2], b[3]);
  }
}

// Two C side by side become an A.
__device__ inline void to_a(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack_bf16(left[0], left[1]), a[1] = pack_bf16(left[2], left[3]);
  a[2] = pack_bf16(right[0], right[1]), a[3] = pack_bf16(right[2], right[3]);
}

}  // namespace supra::cuda
