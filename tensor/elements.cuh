#pragma once
#include "tensor/cuda.cuh"

// Work on each element for itself: the one launcher of all kernels that do no more than that.

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

// Threads in x for a row that is worked at in `pieces`, rows a block in y: as many threads as have something
// to do, up to a block. Both are powers of two.
inline dim3 teams(int64_t pieces) {
  unsigned team = 4;
  while (team < kBlockThreads && team < pieces) team *= 2;
  return {team, kBlockThreads / team};
}

// Calls f.at<w>(row, column) for columns [column, column + w) of each of N rows of C, w = W where `vectors`
// says that rows fit them, else 1. A lone row may end in part of a vector.
template <int W, class F>
void each_element(int64_t N, int64_t C, bool vectors, const F& f) {
  const auto go = [&]<int width>(std::integral_constant<int, width>) {
    const int64_t pieces = (C + width - 1) / width;
    const dim3 block = teams(pieces);
    const int64_t of_row = blocks(pieces, block.x);
    CHECK(N < UINT32_MAX - kBlockThreads, "cuda: %ld rows, fewer than 2^32 are possible", static_cast<long>(N));
    launch<each_element_kernel<width, F>>({blocks(blocks(N, block.y) * of_row, 1), block}, f, N, C, of_row);
  };
  vectors ? go(std::integral_constant<int, W>()) : go(std::integral_constant<int, 1>());
}

}  // namespace supra::cuda
