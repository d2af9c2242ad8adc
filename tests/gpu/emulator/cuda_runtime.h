#pragma once
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

// Replaces CUDA's <cuda_runtime.h> on machines without a GPU: with -Itests/gpu/emulator a .cu file compiles as C++ and its
// kernels run on the CPU. It has only what our kernels and tests use. emulator.h says how blocks are run.

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
// The dynamic shared memory of a block is one array of the CPU's thread that runs the block. With these words any other shared
// memory does not compile.
#define __shared__ constinit thread_local __attribute__((weak))

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
extern constinit thread_local uint3 threadIdx, blockIdx;
extern constinit thread_local dim3 blockDim, gridDim;

// Where a function was called in which a thread waits.
#define EMULATOR_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

void __syncthreads(EMULATOR_PLACE);
void __syncwarp(unsigned mask = 0xffffffff, EMULATOR_PLACE);

namespace supra::emulator {

// The values of the 32 lanes of the warp; valid until the warp's next operation.
const uint32_t* exchange(const char* name, unsigned mask, uint32_t value, const char* file, int line);
int lane();

template <class T>
T of_lane(const char* name, unsigned mask, T value, int source, const char* file, int line) {
  static_assert(sizeof(T) % 4 == 0);
  uint32_t words[sizeof(T) / 4];
  memcpy(words, &value, sizeof value);
  for (uint32_t& word : words) word = exchange(name, mask, word, file, line)[source];
  memcpy(&value, words, sizeof value);
  return value;
}

}  // namespace supra::emulator

// Lanes form groups of `width`, from `first` on. If the source is outside the group, a lane gets its own value.
#define EMULATOR_SHUFFLE(name, source)                                                     \
  template <class T>                                                                       \
  T name(unsigned mask, T value, int by, int width = 32, EMULATOR_PLACE) {                 \
    const int lane = supra::emulator::lane(), first = lane & ~(width - 1);                 \
    const int from = source, inside = from >= first && from < first + width;               \
    return supra::emulator::of_lane(#name, mask, value, inside ? from : lane, file, line); \
  }
EMULATOR_SHUFFLE(__shfl_sync, first + (by & (width - 1)))
EMULATOR_SHUFFLE(__shfl_xor_sync, lane ^ by)
EMULATOR_SHUFFLE(__shfl_up_sync, lane - by)
EMULATOR_SHUFFLE(__shfl_down_sync, lane + by)
#undef EMULATOR_SHUFFLE

// Bit i is set if the value of lane i is not zero.
inline unsigned __ballot_sync(unsigned mask, int predicate, EMULATOR_PLACE) {
  const uint32_t* const all = supra::emulator::exchange("__ballot_sync", mask, predicate != 0, file, line);
  unsigned votes = 0;
  for (int i = 0; i < 32; i++) votes |= all[i] << i;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate, EMULATOR_PLACE) {
  return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMULATOR_PLACE) {
  return __ballot_sync(mask, predicate, file, line) == 0xffffffff;
}
// The lanes that have the same value.
inline unsigned __match_any_sync(unsigned mask, unsigned value, EMULATOR_PLACE) {
  const uint32_t* const all = supra::emulator::exchange("__match_any_sync", mask, value, file, line);
  unsigned same = 0;
  for (int i = 0; i < 32; i++) same |= unsigned{all[i] == value} << i;
  return same;
}
#define EMULATOR_REDUCE(name, expression)                                                              \
  template <class T>                                                                                   \
  T name(unsigned mask, T value, EMULATOR_PLACE) {                                                     \
    static_assert(std::is_integral_v<T> && sizeof(T) == 4);                                            \
    const auto all = supra::emulator::exchange(#name, mask, static_cast<uint32_t>(value), file, line); \
    T a = static_cast<T>(all[0]);                                                                      \
    for (int i = 1; i < 32; i++) {                                                                     \
      const T b = static_cast<T>(all[i]);                                                              \
      a = expression;                                                                                  \
    }                                                                                                  \
    return a;                                                                                          \
  }
EMULATOR_REDUCE(__reduce_add_sync, static_cast<T>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)))
EMULATOR_REDUCE(__reduce_min_sync, b < a ? b : a)
EMULATOR_REDUCE(__reduce_max_sync, a < b ? b : a)
#undef EMULATOR_REDUCE

// Blocks run at the same time, so these are atomic. Sums of floats are refused, because their order would not be fixed.
template <class T>
T atomicAdd(T* at, T value) {
  static_assert(std::is_integral_v<T>, "no float atomics: sum in a fixed order");
  return std::atomic_ref(*at).fetch_add(value);
}
template <class T>
T atomicExch(T* at, T value) {
  return std::atomic_ref(*at).exchange(value);
}
template <class T>
T atomicCAS(T* at, T expected, T value) {
  std::atomic_ref(*at).compare_exchange_strong(expected, value);
  return expected;
}
#define EMULATOR_ATOMIC(name, replaces)                                           \
  template <class T>                                                              \
  T name(T* at, T value) {                                                        \
    T old = std::atomic_ref(*at).load();                                          \
    while (replaces && !std::atomic_ref(*at).compare_exchange_weak(old, value)) { \
    }                                                                             \
    return old;                                                                   \
  }
EMULATOR_ATOMIC(atomicMax, old < value)
EMULATOR_ATOMIC(atomicMin, value < old)
#undef EMULATOR_ATOMIC

inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorNoDevice = 100,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
};
const char* cudaGetErrorString(cudaError_t error);  // the whole message of the last error that the emulator found
cudaError_t cudaGetLastError();

struct cudaDeviceProp {
  char name[256];
  int major, minor, multiProcessorCount;
  size_t totalGlobalMem;
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrPageableMemoryAccess = 88,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);

// Work is done at once and in the order of the calls, whichever stream it goes to; copies from pageable memory may be late
// (emulator.h). While a stream is captured, what goes into it is recorded instead.
using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;
enum { cudaStreamNonBlocking = 1, cudaEventDefault = 0, cudaEventDisableTiming = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeGlobal, cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeRelaxed };
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);

using cudaMemPool_t = struct CUmemPoolHandle_st*;
enum cudaMemPoolAttr { cudaMemPoolAttrReleaseThreshold = 4 };
enum cudaMemcpyKind { cudaMemcpyDefault = 4 };
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t* pool, int device);
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t pool, cudaMemPoolAttr attribute, void* value);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t stream);
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream);
cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };

namespace supra::emulator {
cudaError_t launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> thread);
cudaError_t allow_shared_bytes(const void* kernel, int bytes);
}  // namespace supra::emulator

template <class... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute, int bytes) {
  return supra::emulator::allow_shared_bytes(reinterpret_cast<const void*>(kernel), bytes);
}

template <class... Params>
cudaError_t cudaLaunchKernel(void (*kernel)(Params...), dim3 grid, dim3 block, void** args,
                             size_t shared_bytes, cudaStream_t stream) {
  return [&]<size_t... I>(std::index_sequence<I...>) {
    const std::tuple<Params...> values(*static_cast<Params*>(args[I])...);
    return supra::emulator::launch(reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, stream,
                                   [=] { std::apply(kernel, values); });
  }
  (std::index_sequence_for<Params...>());
}
