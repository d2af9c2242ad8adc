#pragma once
#include "tensor/cuda.cuh"

// Products of small matrices on tensor cores, and the loads and copies around them. One instruction of a warp computes C (16,8)
// += A (16,16) B (16,8), with A and B in bf16 and C in f32 (PTX ISA, mma.sync.m16n8k16). The lanes of the warp hold the
// matrices together: the elements in one lane are its fragment. With g = l / 4 and t = l % 4, lane l holds
//
//   A  pairs (g, 2t..2t+1)  (g+8, 2t..)  (g, 2t+8..)  (g+8, 2t+8..)
//   B  pairs (2t..2t+1, g)  (2t+8.., g)
//   C  (g, 2t)  (g, 2t+1)  (g+8, 2t)  (g+8, 2t+1)
//
// A pair is a register with two bf16; its lower half holds the element of the lower index.

namespace supra::cuda {

// exp(x) = exp2(kLog2e x). The kernels on tensor cores compute powers of 2, which take one instruction.
constexpr float kLog2e = 1.4426950408889634f;

#if defined(__CUDACC__)
__device__ inline void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Loads four matrices of 8 x 8 bf16 from shared memory. Lanes 8i to 8i+7 give the addresses of the rows of matrix i, multiples
// of 16 bytes. Lane l gets the pair (g, 2t..2t+1) of each matrix, or (2t..2t+1, g) if they are transposed.
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

// Starts an asynchronous copy of 16 bytes from global to shared memory, or of 16 zeros, and then does not read `from`. Both
// addresses are multiples of 16. A thread commits its copies in groups, and waits until at most groups_left of its latest
// groups are still under way. Other threads see the bytes after a barrier that follows the wait.
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

// A tile: a matrix in shared memory, row by row. Rows are 16 bytes longer than their columns, so the eight rows of a matrix
// that load_matrices() reads lie in different banks: no bank conflicts.
template <int kColumns>
struct Tile {
  static constexpr int kWidth = kColumns, kPitch = kColumns + 8;

  Bf16* elements;

  __device__ Bf16* at(int row, int column) const { return elements + row * kPitch + column; }
  static constexpr int size(int rows) { return rows * kPitch; }
};

// Starts the copy of `rows` rows that lie `step` elements apart, and of zeros for the rows behind them up to kRows. All
// kThreads threads of the block call it. Neighbouring threads copy neighbouring pieces of 16 bytes, so reads are coalesced.
template <int kRows, int kThreads, int kColumns>
__device__ void copy_rows(Tile<kColumns> to, const Bf16* from, int64_t step, int64_t rows) {
  constexpr int kPieces = kColumns / 8;
  for (int i = threadIdx.x; i < kRows * kPieces; i += kThreads) {
    const int row = i / kPieces, column = i % kPieces * 8;
    const bool live = row < rows;
    copy_async_16(to.at(row, column), from + (live ? row * step + column : 0), !live);
  }
}

// The fragment A: X[m..m+15][k..k+15], or the same of X^T, where X has k rows and m columns.
template <int kColumns>
__device__ void load_a(uint32_t (&a)[4], Tile<kColumns> x, int m, int k, int lane) {
  load_matrices(a, x.at(m + lane % 16, k + lane / 16 * 8));
}
template <int kColumns>
__device__ void load_a_of_transposed(uint32_t (&a)[4], Tile<kColumns> x, int m, int k, int lane) {
  load_matrices_transposed(a, x.at(k + lane % 8 + lane / 16 * 8, m + lane / 8 % 2 * 8));
}

// Two fragments B side by side, b[0..1] and b[2..3]: X[k..k+15][n..n+15], or the same of X^T, where X has n rows and k columns.
template <int kColumns>
__device__ void load_b(uint32_t (&b)[4], Tile<kColumns> x, int k, int n, int lane) {
  load_matrices_transposed(b, x.at(k + lane % 16, n + lane / 16 * 8));
}
template <int kColumns>
__device__ void load_b_of_transposed(uint32_t (&b)[4], Tile<kColumns> x, int k, int n, int lane) {
  load_matrices(b, x.at(n + lane % 8 + lane / 16 * 8, k + lane / 8 % 2 * 8));
}

// c (16, 8 kTiles) += a X[k..k+15][n..n + 8 kTiles - 1]
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

// c (16, 8 kTiles) += a X^T, where X has 8 kTiles rows, and its columns k..k+15 enter
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

// Two fragments C side by side, rounded to bf16, become a fragment A: the result of a product is a factor of the next one
// without leaving the registers.
__device__ inline void to_a(uint32_t (&a)[4], const float (&left)[4], const float (&right)[4]) {
  a[0] = pack_bf16(left[0], left[1]), a[1] = pack_bf16(left[2], left[3]);
  a[2] = pack_bf16(right[0], right[1]), a[3] = pack_bf16(right[2], right[3]);
}

}  // namespace supra::cuda
