#include "tests/gpu/emulator/runtime.h"

#include <cstdlib>
#include <map>
#include <mutex>

#include "tensor/error.h"
#include "tests/gpu/emulator/emulator.h"

// Devices, errors and memory of the emulated GPU.

static int gpu_count = 1;
static thread_local cudaError_t last_error = cudaSuccess;
static thread_local std::string last_words;

// Never destroyed: static tensors may free their memory late.
struct Memory {
  std::mutex mutex;
  size_t total = size_t{80} << 30, taken = 0;
  std::map<void*, size_t> sizes;
};
static Memory& memory_of_gpu = *new Memory;

namespace supra::emulator {

void set_gpus(int count) { gpu_count = count; }

void set_gpu_memory(size_t bytes) {
  const std::lock_guard lock(memory_of_gpu.mutex);
  memory_of_gpu.total = bytes;
}

cudaError_t fail_with(cudaError_t error, const std::string& what) {
  last_error = error, last_words = what;
  return error;
}

// Exactly as many bytes as were asked for, so that the address sanitizer sees accesses behind the end.
void* take_memory(size_t bytes) {
  Memory& gpu = memory_of_gpu;
  const std::lock_guard lock(gpu.mutex);
  void* memory;
  if (gpu.taken + bytes > gpu.total || posix_memalign(&memory, 256, bytes)) return nullptr;
  gpu.taken += gpu.sizes[memory] = bytes;
  return memset(memory, 0xff, bytes);
}

void give_memory_back(void* memory) {
  Memory& gpu = memory_of_gpu;
  const std::lock_guard lock(gpu.mutex);
  const auto found = gpu.sizes.find(memory);
  CHECK(found != gpu.sizes.end(), "emulator: %p is freed, which is no memory of the GPU", memory);
  gpu.taken -= found->second;
  gpu.sizes.erase(found);
  free(memory);
}

bool is_gpu_memory(const void* memory) {
  Memory& gpu = memory_of_gpu;
  const std::lock_guard lock(gpu.mutex);
  auto block = gpu.sizes.upper_bound(const_cast<void*>(memory));
  if (block == gpu.sizes.begin()) return false;
  block--;
  return memory < static_cast<const char*>(block->first) + block->second;
}

}  // namespace supra::emulator

using namespace supra::emulator;

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : last_words.c_str();
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = gpu_count;
  return gpu_count ? cudaSuccess : fail_with(cudaErrorNoDevice, "no CUDA-capable device is detected");
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"emulated GPU", 9, 0, 132, memory_of_gpu.total};
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }

cudaError_t cudaDeviceGetDefaultMemPool(cudaMemPool_t*, int) { return cudaSuccess; }
cudaError_t cudaMemPoolSetAttribute(cudaMemPool_t, cudaMemPoolAttr, void*) { return cudaSuccess; }

cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const std::lock_guard lock(memory_of_gpu.mutex);
  *total = memory_of_gpu.total;
  return *free = memory_of_gpu.total - memory_of_gpu.taken, cudaSuccess;
}

cudaError_t cudaMallocAsync(void** memory, size_t bytes, cudaStream_t) {
  *memory = take_memory(bytes);
  return *memory ? cudaSuccess : fail_with(cudaErrorMemoryAllocation, "out of memory");
}
cudaError_t cudaFreeAsync(void* memory, cudaStream_t stream) {
  finish_uploads(stream);
  if (!leave_to_graph(stream, memory)) give_memory_back(memory);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int byte, size_t bytes, cudaStream_t stream) {
  return put(stream, [=] { return memset(memory, byte, bytes), cudaSuccess; });
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t stream) {
  const auto copy = [=] { return memcpy(to, from, bytes), cudaSuccess; };
  return is_gpu_memory(from) ? put(stream, copy) : put_upload(stream, copy);
}
