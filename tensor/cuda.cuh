#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <utility>

#include "tensor/cuda.h"
#include "tensor/dtype.h"
#include "tensor/error.h"

// The basics of every .cu file: launch(), sums over a warp or a block, vector loads and stores, conversions to and from bf16.
// nvcc compiles the same source for the GPU, and the C++ compiler compiles it against tests/gpu/emulator, which has a
// <cuda_runtime.h> of its own. Three rules keep that possible:
//
//   kernels are launched by launch(), never by triple angle brackets
//   all shared memory is dynamic and comes from shared_memory()
//   PTX is used only in small wrapper functions, which the emulator defines in C++

namespace supra::cuda {

// Throws Error "what: CUDA's words" unless error is cudaSuccess.
void check(cudaError_t error, const char* what);

// Blocks and threads of a launch.
struct LaunchShape {
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  Stream::Handle stream = current_stream();
};

// For example "const char* supra::cuda::signature() [with auto kernel = rmsnorm_fwd_kernel<float, 4>]"; compilers differ a
// little.
template <auto kernel>
const char* signature() {
  return __PRETTY_FUNCTION__;
}

// Throws Error that names the kernel and says why it was refused: the shared memory that it needs, where the GPU has less, or
// its shape and CUDA's words.
[[noreturn]] void launch_failed(std::string_view signature, const LaunchShape& shape, cudaError_t error);

// Adds kernel(args...) to the stream; the arguments are converted to the kernel's parameters. An empty grid is no work. Throws
// Error at once if the launch is refused. A fault while the kernel runs is reported by a later call, as usual with CUDA; with
// CUDA_LAUNCH_BLOCKING=1 in the environment it is reported here.
//
//   launch<scale_kernel<float>>({blocks(n, 256), 256}, y, x, n);
template <auto kernel, class... Args>
void launch(const LaunchShape& shape, Args... args) {
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  const auto go = [&]<class... Params>(void (*function)(Params...)) {
    std::tuple<Params...> values(static_cast<Params>(args)...);
    // a kernel may use more than 48 KB only after this call
    if (shape.shared_bytes > 48 * 1024) {
      const cudaError_t error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                     static_cast<int>(shape.shared_bytes));
      if (error != cudaSuccess) return error;
    }
    return std::apply(
        [&](auto&... value) {
          void* pointers[] = {&value...};
          return cudaLaunchKernel(function, shape.grid, shape.block, pointers, shape.shared_bytes,
                                  shape.stream);
        },
        values);
  };
  const cudaError_t error = go(kernel);
  if (error != cudaSuccess) launch_failed(signature<kernel>(), shape, error);
}

// A property of the GPU in use, for example its multiprocessors, or the bytes of shared memory that a block may use.
int64_t attribute(cudaDeviceAttr what);

// Blocks of `per_block` that cover n.
inline unsigned blocks(int64_t n, int64_t per_block) {
  const int64_t count = (n + per_block - 1) / per_block;
  CHECK(count >= 0 && count < INT32_MAX, "cuda: %ld blocks in a grid, fewer than 2^31 are possible",
        static_cast<long>(count));
  return static_cast<unsigned>(count);
}

// The block's dynamic shared memory, as large as the launch said.
extern __shared__ __align__(128) unsigned char shared_bytes_[];
template <class T>
__device__ T* shared_memory() {
  return reinterpret_cast<T*>(shared_bytes_);
}

constexpr unsigned kWholeWarp = 0xffffffff;

// The sum over the warp, or over each group of `lanes` neighbours (a power of two), in every lane. All lanes of the warp must
// call it. The order of the additions is fixed.
__device__ inline float warp_sum(float x, int lanes = 32) {
  for (int offset = lanes / 2; offset > 0; offset /= 2) x += __shfl_xor_sync(kWholeWarp, x, offset);
  return x;
}
// The sum over the lanes of the warp up to this one. All lanes of the warp must call it.
template <class X>
__device__ X warp_prefix_sum(X x) {
  const int lane = threadIdx.x % 32;
  for (int by = 1; by < 32; by *= 2) {
    const X below = __shfl_up_sync(kWholeWarp, x, by);
    if (lane >= by) x += below;
  }
  return x;
}
// The largest x, in the same lanes as warp_sum().
__device__ inline float warp_max(float x, int lanes = 32) {
  for (int offset = lanes / 2; offset > 0; offset /= 2)
    x = fmaxf(x, __shfl_xor_sync(kWholeWarp, x, offset));
  return x;
}

// The x of all threads of the block combined, in every thread. All threads must call it. of_warp: in shared memory, one for
// each warp.
template <class X, class Op>
__device__ X over_block(X x, X* of_warp, Op op) {
  for (int offset = 16; offset > 0; offset /= 2) x = op(x, __shfl_xor_sync(kWholeWarp, x, offset));
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = x;
  __syncthreads();
  x = of_warp[0];
  for (unsigned warp = 1; warp < blockDim.x / 32; warp++) x = op(x, of_warp[warp]);
  // all have read these numbers before the next ones are written
  __syncthreads();
  return x;
}

#if defined(__CUDACC__)
// Two floats, rounded to the nearest bf16 (ties to even). The lower half of the pair holds `low`.
__device__ inline uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
__device__ inline float f16_to_float(uint32_t half) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(static_cast<uint16_t>(half)));
  return x;
}
__device__ inline void check_aligned(const void*, size_t) {}
#else
inline float f16_to_float(uint32_t half) { return f16_to_f32(static_cast<uint16_t>(half)); }
uint32_t pack_bf16(float low, float high);
// The emulator reports misaligned addresses; an x86 would accept them.
void check_aligned(const void* address, size_t bytes);
#endif
__device__ inline float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

// The vector (float2, float4, uint4) at an address that is a multiple of its size.
template <class V, class T>
__device__ V& vector_at(T* p) {
  check_aligned(p, sizeof(V));
  return *reinterpret_cast<V*>(p);
}

// x = the four elements of float or Bf16 at p, an address that is a multiple of their size.
__device__ inline void load_4(float* x, const float* p) {
  const float4 v = vector_at<const float4>(p);
  x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}
__device__ inline void load_4(float* x, const Bf16* p) {
  const uint2 v = vector_at<const uint2>(p);
  x[0] = low_bf16(v.x), x[1] = high_bf16(v.x), x[2] = low_bf16(v.y), x[3] = high_bf16(v.y);
}
__device__ inline void store_4(float* p, const float* x) { vector_at<float4>(p) = {x[0], x[1], x[2], x[3]}; }
__device__ inline void store_4(Bf16* p, const float* x) {
  vector_at<uint2>(p) = {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3])};
}
__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(Bf16 x) { return low_bf16(x.bits); }
__device__ inline void store_1(float* p, float x) { *p = x; }
__device__ inline void store_1(Bf16* p, float x) {
  p->bits = static_cast<uint16_t>(pack_bf16(x, 0) & 0xffff);
}

// x = W elements at p: one, or four or eight as vectors of up to 16 bytes.
template <int W, class T>
__device__ void load(float (&x)[W], const T* p) {
  static_assert(W == 1 || W == 4 || W == 8);
  if constexpr (W == 1) {
    x[0] = to_float(*p);
  } else if constexpr (W == 8 && sizeof(T) == 2) {
    const uint4 v = vector_at<const uint4>(p);
    const uint32_t pairs[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) x[2 * i] = low_bf16(pairs[i]), x[2 * i + 1] = high_bf16(pairs[i]);
  } else {
    for (int i = 0; i < W; i += 4) load_4(x + i, p + i);
  }
}
template <int W, class T>
__device__ void store(T* p, const float (&x)[W]) {
  static_assert(W == 1 || W == 4 || W == 8);
  if constexpr (W == 1) {
    store_1(p, x[0]);
  } else if constexpr (W == 8 && sizeof(T) == 2) {
    vector_at<uint4>(p) = {pack_bf16(x[0], x[1]), pack_bf16(x[2], x[3]), pack_bf16(x[4], x[5]),
                           pack_bf16(x[6], x[7])};
  } else {
    for (int i = 0; i < W; i += 4) store_4(p + i, x + i);
  }
}

// True if rows of n elements at these addresses can be read and written W at a time.
template <int W = 4, class... T>
bool fits_vectors(int64_t n, const T*... rows) {
  return n % W == 0 && ((reinterpret_cast<uintptr_t>(rows) % std::min<size_t>(16, W * sizeof(T)) == 0) && ...);
}
// Calls f(constant): W if rows fit vectors of W elements, otherwise 1.
template <int W, class F>
void by_width(bool vectors, F f) {
  vectors ? f(std::integral_constant<int, W>()) : f(std::integral_constant<int, 1>());
}

}  // namespace supra::cuda
