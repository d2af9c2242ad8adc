#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <utility>

// Stands in for CUDA's <cuda_runtime.h> where no GPU is: with -Itests/cuda_emulator before it, a .cu file
// compiles as C++ and its kernels run on the processor. Holds what our kernels use, and no more. How blocks
// are run: emulator.h.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
// dynamic shared memory is a global array of the emulator; any other kind fails to compile by this attribute
#define __shared__ __attribute__((weak))

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// What a thread waits in says where it was called from.
#define EMULATOR_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void __syncthreads(EMULATOR_PLACE);
void __syncwarp(unsigned mask = 0xffffffff, EMULATOR_PLACE);

namespace supra::emulator {
// The value that lane `source` of the warp brings.
uint32_t shuffle(const char* name, unsigned mask, uint32_t value, int source, const char* file, int line);
int lane();
}  // namespace supra::emulator

#define EMULATOR_SHUFFLE(name, source)                                      \
  template <class T>                                                        \
  T name(unsigned mask, T value, int by, EMULATOR_PLACE) {                  \
    static_assert(sizeof(T) == 4);                                          \
    using supra::emulator::lane;                                            \
    uint32_t bits;                                                          \
    memcpy(&bits, &value, 4);                                               \
    bits = supra::emulator::shuffle(#name, mask, bits, source, file, line); \
    memcpy(&value, &bits, 4);                                               \
    return value;                                                           \
  }
EMULATOR_SHUFFLE(__shfl_sync, by & 31)
EMULATOR_SHUFFLE(__shfl_xor_sync, lane() ^ by)
EMULATOR_SHUFFLE(__shfl_up_sync, lane() < by ? lane() : lane() - by)
EMULATOR_SHUFFLE(__shfl_down_sync, lane() + by > 31 ? lane() : lane() + by)
#undef EMULATOR_SHUFFLE

// One thread runs at a time, so plain code is atomic.
template <class T>
T atomicAdd(T* at, T value) {
  return std::exchange(*at, static_cast<T>(*at + value));
}
template <class T>
T atomicMax(T* at, T value) {
  return std::exchange(*at, *at < value ? value : *at);
}

inline float __uint_as_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorLaunchFailure = 719,
};
const char* cudaGetErrorString(cudaError_t error);  // of the last error: what the emulator found, in full
cudaError_t cudaGetLastError();

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);

// Work is done at once, so streams and events are names and nothing else.
using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2 };
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventDestroy(cudaEvent_t event);

using cudaMemPool_t = struct CUmemPoolHandle_st*;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value);
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace supra::emulator {
cudaError_t run(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                const std::function<void()>& thread);
cudaError_t allow_shared_bytes(const void* kernel, int bytes);
}  // namespace supra::emulator

template <class... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute, int bytes) {
  return supra::emulator::allow_shared_bytes(reinterpret_cast<const void*>(kernel), bytes);
}

template <class... Params>
cudaError_t cudaLaunchKernel(void (*kernel)(Params...), dim3 grid, dim3 block, void** args,
                             size_t shared_bytes, cudaStream_t) {
  return [&]<size_t... I>(std::index_sequence<I...>) {
    const auto thread = [=] { kernel(*static_cast<Params*>(args[I])...); };
    return supra::emulator::run(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, thread);
  }
  (std::index_sequence_for<Params...>());
}
