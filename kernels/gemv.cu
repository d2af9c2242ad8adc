#include <algorithm>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"
#include "tensor/quantized.h"

// y (N,O) = x (N,C) w (O,C)^T + bias for up to eight rows of x, with w as it is stored: f32, f16, bf16 or quantised. Decoding
// consists mostly of such products. Reading w bounds them: each byte is read once.
//
// A warp takes two rows of w. A lane reads 16 bytes of a row at a time, a unit, and neighbouring lanes read neighbouring units,
// so reads are coalesced. x lies in shared memory in f32, in the order in which the lanes read it, so there are no bank
// conflicts.

namespace supra::cuda {

constexpr int kWarps = 4, kThreads = 32 * kWarps, kOutputs = 2;
// floats of x that lie in shared memory at once; a longer x comes in turns
constexpr int kStaged = 16384;

// Which elements of a row are in a unit.
template <Dtype W>
struct Unit {
  static constexpr bool quantized = W == Dtype::q8_0 || W == Dtype::q4_0 || W == Dtype::q4_1;
  static constexpr bool nibbles = quantized && W != Dtype::q8_0;
  static constexpr int elements = W == Dtype::f32 ? 4 : !quantized ? 8 : nibbles ? 32 : 16;
  static constexpr int fours = elements / 4;

  // The first element in the low halves of the bytes of unit u, and the first in the high halves, in a row of C elements. Two
  // units are a pair of blocks; a last block without a partner is one unit (tensor/quantized.h).
  __device__ static int64_t low(int64_t u) { return nibbles ? u / 2 * 64 + u % 2 * 16 : u * elements; }
  __device__ static int64_t high(int64_t u, int64_t C) {
    return low(u) + (u * elements + elements == C && u % 2 == 0 ? 16 : 32);
  }
  // The first of the i-th four elements of unit u.
  __device__ static int64_t first(int64_t u, int i, int64_t C) {
    return nibbles && i >= 4 ? high(u, C) + 4 * (i - 4) : low(u) + 4 * i;
  }
};

// q as a float. 2^23 + q is exact, and this takes one instruction; a conversion takes more.
__device__ static float small_integer(uint32_t q) { return __uint_as_float(0x4b000000u | q) - 8388608.0f; }

// The i-th four elements of a unit, without their scale.
template <Dtype W>
__device__ static void decode(float (&x)[4], const uint32_t (&unit)[4], int i) {
  if constexpr (W == Dtype::f32) {
    for (int e = 0; e < 4; e++) x[e] = __uint_as_float(unit[e]);
  } else if constexpr (W == Dtype::bf16) {
    for (int e = 0; e < 4; e += 2) {
      const uint32_t pair = unit[2 * i + e / 2];
      x[e] = low_bf16(pair), x[e + 1] = high_bf16(pair);
    }
  } else if constexpr (W == Dtype::f16) {
    for (int e = 0; e < 4; e += 2) {
      const uint32_t pair = unit[2 * i + e / 2];
      x[e] = f16_to_float(pair & 0xffff), x[e + 1] = f16_to_float(pair >> 16);
    }
  } else if constexpr (W == Dtype::q8_0) {
    for (int e = 0; e < 4; e++) x[e] = static_cast<float>(static_cast<int8_t>(unit[i] >> 8 * e & 255));
  } else {
    for (int e = 0; e < 4; e++) {
      x[e] = small_integer(unit[i % 4] >> (8 * e + i / 4 * 4) & 15) - (W == Dtype::q4_0 ? 8 : 0);
    }
  }
}

// A row of w as it is stored.
template <Dtype W>
struct StoredRow {
  const uint8_t* row;
  int64_t C;
  int alignment;  // of rows: 16, 4 or 2 bytes

  __device__ void load(uint32_t (&unit)[4], int64_t u) const {
    const uint8_t* const at = row + u * 16;
    if (alignment == 16) {
      const uint4 x = vector_at<const uint4>(at);
      unit[0] = x.x, unit[1] = x.y, unit[2] = x.z, unit[3] = x.w;
      return;
    }
    // the last unit of a row may not be full
    const int64_t bytes = C * 16 / Unit<W>::elements - u * 16;
    const auto half = [&](int i) -> uint32_t { return i < bytes ? vector_at<const uint16_t>(at + i) : 0; };
    for (int i = 0; i < 16; i += 4) {
      unit[i / 4] = alignment == 2 ? half(i) | half(i + 2) << 16
                    : i < bytes    ? vector_at<const uint32_t>(at + i)
                                   : 0;
    }
  }
  // The scales of the blocks lie behind the quants, the minima behind the scales.
  __device__ float scale(int64_t block) const {
    const uint8_t* const scales = row + (W == Dtype::q8_0 ? C : C / 2);
    return f16_to_float(vector_at<const uint16_t>(scales + 2 * block));
  }
  __device__ float minimum(int64_t block) const { return scale(C / kBlock + block); }
};

// The part of x that lies in shared memory: kUnits units of kRows rows, in f32.
template <Dtype W, int kRows>
struct StagedRows {
  using U = Unit<W>;
  static constexpr int kUnits = kStaged / kRows / U::elements;

  float* const memory = shared_memory<float>();

  // The i-th four elements of unit u of row r. 32 lanes with 32 units read 32 neighbouring places.
  __device__ float* four(int u, int i, int r) const {
    return memory + 4 * (((u / 32 * U::fours + i) * kRows + r) * 32 + u % 32);
  }
  // Copies `count` units from unit `begin` on; zeros behind column C and for rows that x does not have.
  template <class T>
  __device__ void fill(const T* x, int64_t begin, int count, int N, int64_t C) const {
    for (int j = threadIdx.x; j < count * U::fours; j += kThreads) {
      const int u = j / U::fours, i = j % U::fours;
      const int64_t first = U::first(begin + u, i, C);
      for (int r = 0; r < kRows; r++) {
        float values[4];
        for (int e = 0; e < 4; e++) values[e] = r < N && first + e < C ? to_float(x[r * C + first + e]) : 0;
        store_4(four(u, i, r), values);
      }
    }
  }
};

// sums += the products of unit begin + u of the rows of w with the same unit of the rows of x. A unit of 4-bit weights has
// elements of one block in the low halves of its bytes, and of another in the high halves. The scale of a block multiplies the
// sum of its products.
template <Dtype W, int kRows>
__device__ __forceinline__ void multiply_unit(float (&sums)[kOutputs][kRows], const StoredRow<W> (&rows)[kOutputs],
                                              const StagedRows<W, kRows>& x, int64_t begin, int u, int64_t C) {
  using U = Unit<W>;
  uint32_t unit[kOutputs][4];
  for (int o = 0; o < kOutputs; o++) rows[o].load(unit[o], begin + u);
#pragma unroll
  for (int half = 0; half < (U::nibbles ? 2 : 1); half++) {
    float part[kOutputs][kRows] = {}, total[kRows] = {};
    constexpr int kFours = U::nibbles ? 4 : U::fours;
#pragma unroll
    for (int i = 0; i < kFours; i++) {
      float a[kOutputs][4];
      for (int o = 0; o < kOutputs; o++) decode<W>(a[o], unit[o], half * 4 + i);
#pragma unroll
      for (int r = 0; r < kRows; r++) {
        float b[4];
        load_4(b, x.four(u, half * 4 + i, r));
        for (int e = 0; e < 4; e++) {
          for (int o = 0; o < kOutputs; o++) part[o][r] += a[o][e] * b[e];
          if (W == Dtype::q4_1) total[r] += b[e];
        }
      }
    }
    const int64_t block = (half ? U::high(begin + u, C) : U::low(begin + u)) / kBlock;
    for (int o = 0; o < kOutputs; o++) {
      const float scale = U::quantized ? rows[o].scale(block) : 1;
      for (int r = 0; r < kRows; r++) sums[o][r] += scale * part[o][r];
      if constexpr (W == Dtype::q4_1) {
        const float minimum = rows[o].minimum(block);
        for (int r = 0; r < kRows; r++) sums[o][r] += minimum * total[r];
      }
    }
  }
}

// N <= kRows
template <class T, Dtype W, int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    gemv_kernel(T* y, const T* x, const uint8_t* w, const float* bias, int N, int64_t O, int64_t C,
                int64_t row_bytes, int alignment) {
  const StagedRows<W, kRows> staged;
  const int lane = threadIdx.x % 32;
  const int64_t output = (int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * kOutputs;
  const int64_t units = (C + Unit<W>::elements - 1) / Unit<W>::elements;
  StoredRow<W> rows[kOutputs];
  for (int o = 0; o < kOutputs; o++) {
    // behind the last row the last one is read again
    const int64_t row = output + o < O ? output + o : O - 1;
    rows[o] = {w + row * row_bytes, C, alignment};
  }
  float sums[kOutputs][kRows] = {};
  for (int64_t begin = 0; begin < units; begin += staged.kUnits) {
    const int count = static_cast<int>(units - begin < staged.kUnits ? units - begin : staged.kUnits);
    // all warps have read the last units
    __syncthreads();
    staged.fill(x, begin, count, N, C);
    __syncthreads();
    for (int u = lane; u < count; u += 32) multiply_unit(sums, rows, staged, begin, u, C);
  }
#pragma unroll
  for (int o = 0; o < kOutputs; o++) {
#pragma unroll
    for (int r = 0; r < kRows; r++) {
      const float sum = warp_sum(sums[o][r]);
      if (lane == 0 && r < N && output + o < O)
        store_1(y + r * O + output + o, sum + (bias ? bias[output + o] : 0));
    }
  }
}

template <class T, Dtype W, int kRows>
static void run(T* y, const T* x, const void* w, const float* bias, int64_t N, int64_t O, int64_t C) {
  const int64_t bytes = static_cast<int64_t>(row_bytes(W, C)), columns = 32 * Unit<W>::elements;
  const int64_t staged = std::min<int64_t>(kStaged, (C + columns - 1) / columns * columns * kRows);
  const auto places = reinterpret_cast<uintptr_t>(w) | static_cast<uintptr_t>(bytes);
  const int alignment = places % 16 == 0 ? 16 : places % 4 == 0 ? 4 : 2;
  launch<gemv_kernel<T, W, kRows>>({blocks(O, kWarps * kOutputs), kThreads, staged * sizeof(float)}, y, x, w,
                                   bias, N, O, C, bytes, alignment);
}

template <class T, Dtype W>
static void by_rows(T* y, const T* x, const void* w, const float* bias, int64_t N, int64_t O, int64_t C) {
  (N == 1 ? run<T, W, 1> : N <= 4 ? run<T, W, 4> : run<T, W, kGemvRows>)(y, x, w, bias, N, O, C);
}

template <class T>
void gemv(T* y, const T* x, const void* w, Dtype dtype, const float* bias, int64_t N, int64_t O, int64_t C) {
  CHECK(N <= kGemvRows, "gemv: %ld rows, it takes up to %ld", static_cast<long>(N),
        static_cast<long>(kGemvRows));
  switch (dtype) {
    case Dtype::f32:
      return by_rows<T, Dtype::f32>(y, x, w, bias, N, O, C);
    case Dtype::f16:
      return by_rows<T, Dtype::f16>(y, x, w, bias, N, O, C);
    case Dtype::bf16:
      return by_rows<T, Dtype::bf16>(y, x, w, bias, N, O, C);
    case Dtype::q8_0:
      return by_rows<T, Dtype::q8_0>(y, x, w, bias, N, O, C);
    case Dtype::q4_0:
      return by_rows<T, Dtype::q4_0>(y, x, w, bias, N, O, C);
    case Dtype::q4_1:
      return by_rows<T, Dtype::q4_1>(y, x, w, bias, N, O, C);
    default:
      fail("linear: weights in %s, the GPU multiplies f32, f16, bf16, q8_0, q4_0 and q4_1", name(dtype));
  }
}

template void gemv(float*, const float*, const void*, Dtype, const float*, int64_t, int64_t, int64_t);
template void gemv(Bf16*, const Bf16*, const void*, Dtype, const float*, int64_t, int64_t, int64_t);

}  // namespace supra::cuda
