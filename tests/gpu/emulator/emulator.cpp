#include "tests/gpu/emulator/emulator.h"

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <map>
#include <mutex>

#include "tensor/error.h"
#include "tensor/parallel.h"
#include "tests/gpu/emulator/block.h"
#include "tests/gpu/emulator/runtime.h"

// Launches: checks that a GPU would accept them, and runs their blocks on the threads of the CPU.

namespace supra::emulator {
namespace {

Schedule schedule = Schedule::in_order;
uint64_t schedule_seed = 1;

std::mutex one_at_a_time;                      // one launch at a time; also protects allowed_shared
std::map<const void*, size_t> allowed_shared;  // of kernels that asked for more than 48 KB

size_t allowed(const void* kernel) {
  const auto found = allowed_shared.find(kernel);
  return found == allowed_shared.end() ? 48 * 1024 : found->second;
}

std::string refused(const Launch& launch, size_t allowed) {
  if (fibers_trouble()) return fibers_trouble();
  const dim3 grid = launch.grid, block = launch.block;
  const uint64_t size = uint64_t{block.x} * block.y * block.z;
  if (size == 0 || size > 1024 || block.z > 64)
    return format("a block of %lu threads, 1 to 1024 are possible", size);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "an empty grid";
  if (grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535) return "a grid above (2^31-1, 65535, 65535)";
  if (launch.shared_bytes > allowed) {
    return format("%zu bytes of shared memory, %zu are allowed (cudaFuncSetAttribute)", launch.shared_bytes,
                  allowed);
  }
  return "";
}

// Runs all blocks. Returns the message of the first block that failed: all blocks before it were run, so the message does not
// depend on the number of threads.
std::string run_blocks(const Launch& launch) {
  const std::vector<uint32_t> order = turns(launch, size_t{launch.grid.x} * launch.grid.y * launch.grid.z, 0);
  const int64_t count = static_cast<int64_t>(order.size());
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  int64_t first_failed = count;
  std::string failure;
  parallel_for(std::min<int64_t>(threads(), count), 1, [&](int64_t, int64_t) {
    static thread_local Block block;
    for (int64_t turn; (turn = next++) < count;) {
      const std::string words = block.run(launch, order[turn]);
      if (words.empty()) continue;
      next = count;
      const std::lock_guard lock(mutex);
      if (turn < first_failed) first_failed = turn, failure = words;
    }
  });
  return failure;
}

}  // namespace

void set_schedule(Schedule order, uint64_t seed) { schedule = order, schedule_seed = seed; }

void fault(const char* what, ...) {
  char text[2048];
  va_list args;
  va_start(args, what);
  vsnprintf(text, sizeof text, what, args);
  va_end(args);
  Block::current().fault(text);
}

static size_t most_shared = kMostShared;
void set_most_shared_memory(size_t bytes) { most_shared = std::min<size_t>(bytes, kMostShared); }

cudaError_t allow_shared_bytes(const void* kernel, int bytes) {
  if (bytes > static_cast<int>(most_shared)) {
    return fail_with(cudaErrorInvalidValue,
                     format("%d bytes of shared memory, a GPU has %zu", bytes, most_shared));
  }
  const std::lock_guard lock(one_at_a_time);
  allowed_shared[kernel] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

cudaError_t launch(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   std::function<void()> thread) {
  return put(stream, [=]() {
    const std::lock_guard lock(one_at_a_time);
    const Launch launch = {grid, block, shared_bytes, thread, schedule, schedule_seed};
    if (const std::string reason = refused(launch, allowed(kernel)); !reason.empty()) {
      return fail_with(cudaErrorInvalidConfiguration, reason);
    }
    const std::string failure = run_blocks(launch);
    return failure.empty() ? cudaSuccess : fail_with(cudaErrorLaunchFailure, failure);
  });
}

}  // namespace supra::emulator

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr what, int) {
  *value = what == cudaDevAttrMultiProcessorCount    ? 132
           : what == cudaDevAttrPageableMemoryAccess ? supra::emulator::reads_pageable_memory()
                                                     : static_cast<int>(supra::emulator::most_shared);
  return cudaSuccess;
}
