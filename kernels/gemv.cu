#include <algorithm>

#include "kernels/cuda.h"
#include "tensor/cuda.cuh"
#include "tensor/quantized.h"

// Few rows of x against weights as they are stored: what decoding is made of, and bound by the bytes of w.
// A warp takes two rows of w and reads them 16 bytes a lane and step: a unit. x lies in shared memory as f32,
// in the order in which the lanes come to it, so that 32 of them meet no bank twice.

namespace supra::cuda {

constexpr int kWarps = 4, kThreads = 32 * kWarps, kOutputs = 2;
// floats of x that lie in shared memory at once; more come in turns
constexpr int kStaged = 16384;

// How the elements of a row stand in its units.
template <Dtype W>
struct Unit {
  static constexpr bool quantized = W == Dtype::q8_0 || W == Dtype::q4_0 || W == Dtype::q4_1;
  static constexpr bool nibbles = quantized && W != Dtype::q8_0;
  static constexpr int elements = W == Dtype::f32 ? 4 : !quantized ? 8 : nibbles ? 32 : 16;
  static constexpr int fours = elements / 4;

  // Of unit u of a row of C elements: the first element of its low halves, and of its high ones. Two units
  // make a pair of blocks, one a block that is left over (tensor/quantized.h).
  __device__ static int64_t low(int64_t u) { return nibbles ? u / 2 * 64 + u % 2 * 16 : u * elements; }
  __device__ static int64_t high(int64_t u, int64_t C) {
    return low(u) + (u * elements + elements == C && u % 2 == 0 ? 16 : 32);
  }
  // Of its i-th four elements the first.
  __device__ static int64_t first(int64_t u, int i, int64_t C) {
    return nibbles && i >= 4 ? high(u, C) + 4 * (i - 4) : low(u) + 4 * i;
  }
};

// 2^23 + q is exact and costs one instruction, a conversion more.
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
  // Scales behind the quants, a block each; minima behind the scales.
  __device__ float scale(int64_t block) const {
    const uint8_t* const scales = row + (W == Dtype::q8_0 ? C : C / 2);
    return f16_to_float(vector_at<const uint16_t>(scales + 2 * block));
  }
  __device__ float minimum(int64_t block) const { return scale(C / kBlock + block); }
};

// y (N,O) = x (N,C) w (O,C)^T + bias, N <= kRows
template <class T, Dtype W, int kRows>
__global__ void __launch_bounds__(kThreads, 1)
    gemv_kernel(T* y, const T* x, const uint8_t* w, const float* bias, int N, int64_t O, int64_t C,
                int64_t row_bytes, int alignment) {
  using U = Unit<W>;
  constexpr int kUnits = kStaged / kRows / U::elements;
  float* const staged = shared_memory<float>();
  const int lane = threadIdx.x % 32;
  const int64_t output = (int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * kOutputs;
  const int64_t units = (C + U::elements - 1) / U::elements;
  StoredRow<W> rows[kOutputs];
  for (int o = 0; o < kOutputs; o++) {
    // there is no row behind the last one: it is read twice
    const int64_t row = output + o < O ? output + o : O - 1;
    rows[o] = {w + row * row_bytes, C, alignment};
  }
  float sums[kOutputs][kRows] = {};
  for (int64_t begin = 0; begin < units; begin += kUnits) {
    const int count = static_cast<int>(units - begin < kUnits ? units - begin : kUnits);
    // the i-th four of unit u for row r: at ((u / 32 * fours + i) * kRows + r) * 32 + u % 32
    const auto place = [&](int u, int i, int r) {
      return staged + 4 * (((u / 32 * U::fours + i) * kRows + r) * 32 + u % 32);
    };
    __syncthreads();
    for (int j = threadIdx.x; j < count * U::fours; j += kThreads) {
      const int u = j / U::fours, i = j % U::fours;
      const int64_t first = U::first(begin + u, i, C);
      for (int r = 0; r < kRows; r++) {
        float four[4];
        for (int e = 0; e < 4; e++)
          four[e] = r < N && first + e < C ? to_float(x[r * C + first + e]) : 0;
        store_4(place(u, i, r), four);
      }
    }
    __syncthreads();
    for (int u = lane; u < count; u += 32) {
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
            load_4(b, place(u, half * 4 + i, r));
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
