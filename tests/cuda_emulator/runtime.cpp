#include <cstdlib>
#include <string>

#include "tensor/error.h"
#include "tests/cuda_emulator/cuda_runtime.h"
#include "tests/cuda_emulator/emulator.h"

// What of CUDA's runtime stands around the kernels: devices, memory, streams, errors.

static int gpu_count = 1;
static cudaError_t last_error = cudaSuccess;
static std::string last_words;

namespace supra::emulator {

void set_gpus(int count) { gpu_count = count; }

cudaError_t fail_with(cudaError_t error, const std::string& what) {
  last_error = error, last_words = what;
  return error;
}

}  // namespace supra::emulator

using supra::emulator::fail_with;

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : last_words.c_str();
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = gpu_count;
  return gpu_count ? cudaSuccess : fail_with(cudaErrorNoDevice, "no CUDA-capable device is detected");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"emulated GPU", 9, 0, 132, size_t{80} << 30};
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = static_cast<cudaStream_t>(malloc(1));
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return free(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t*, unsigned) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t*, int) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }

// As long as asked and no longer, so that the address sanitizer sees who goes past the end.
cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  if (posix_memalign(memory, 256, bytes)) return fail_with(cudaErrorMemoryAllocation, "out of memory");
  memset(*memory, 0xff, bytes);
  return cudaSuccess;
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t) { return free(memory), cudaSuccess; }

cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t) {
  return memset(memory, byte, bytes), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return memcpy(to, from, bytes), cudaSuccess;
}
