#pragma once
#include "tensor/cuda.cuh"

// The launcher of all kernels that work on each element by itself.

namespace supra::cuda {

// 16 bytes of T.
template <class T>
constexpr int kVector = 16 / sizeof(T);

constexpr int kBlockThreads = 256;  // of every kernel that works on rows or elements

template <int W, class F>
__global__ void __launch_bounds__(kBlockThreads)
    each_element_kernel(F f, unsigned N, int64_t C, unsigned blocks_of_row) {
  const unsigned row = blockIdx.x / blocks_of_row * blockDim.y + threadIdx.y;
  const int64_t column = (int64_t{blockIdx.x % blocks_of_row} * blockDim.x + threadIdx.x) * W;
  if (row >= N || column >= C) return;
  if (column + W <= C) return f.template at<W>(row, column);
  for (int64_t i = column; i < C; i++) f.template at<1>(row, i);
}

// The shape of a block for rows of `pieces` pieces: in x the threads of a row, as many as have work, up to a whole block; in y
// the rows of the block. Both are powers of two.
inline dim3 teams(int64_t pieces) {
  unsigned team = 4;
  while (team < kBlockThreads && team < pieces) team *= 2;
  return {team, kBlockThreads / team};
}

// Calls f.at<w>(row, column) for columns [column, column + w) of each of N rows of C. w is W if `vectors`, otherwise 1. If
// there is only one row, it may end in part of a vector. Neighbouring threads take neighbouring columns.
template <int W, class F>
void each_element(int64_t N, int64_t C, bool vectors, const F& f) {
  by_width<W>(vectors, [&]<int width>(std::integral_constant<int, width>) {
    const int64_t pieces = (C + width - 1) / width;
    const dim3 block = teams(pieces);
    const int64_t of_row = blocks(pieces, block.x);
    CHECK(N < UINT32_MAX - kBlockThreads, "cuda: %ld rows, fewer than 2^32 are possible", static_cast<long>(N));
    launch<each_element_kernel<width, F>>({blocks(blocks(N, block.y) * of_row, 1), block}, f, N, C, of_row);
  });
}

}  // namespace supra::cuda
