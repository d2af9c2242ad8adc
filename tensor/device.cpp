#include "tensor/device.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "tensor/cuda.h"
#include "tensor/error.h"
#include "tensor/recycle.h"

namespace supra {

// What tensors hold on a device.
struct Account {
  std::atomic<size_t> current{0}, peak{0};

  void take(size_t bytes) {
    const size_t now = current += bytes;
    size_t seen = peak;
    while (now > seen && !peak.compare_exchange_weak(seen, now)) {
    }
  }
};

static Account accounts[2];
static Account& account(Device device) { return accounts[static_cast<int>(device)]; }

static std::atomic<bool> poison{getenv("SUPRA_POISON") != nullptr};

const char* name(Device device) { return device == Device::cpu ? "cpu" : "cuda"; }

[[noreturn]] static void out_of_memory(const char* whose, size_t bytes, const Account& held) {
  throw OutOfMemory(format("out of the memory of %s: %.1f MB asked for, %.1f MB held by tensors (use a smaller batch or a shorter sequence)",
                           whose, bytes / 1e6, held.current.load() / 1e6));
}

static std::shared_ptr<void> allocate_cuda(size_t bytes) {
  CHECK(cuda::built(), "memory of the GPU: %s", cuda::why_not().c_str());
  const size_t size = bytes == 0 ? 1 : bytes;
  Account& held = account(Device::cuda);
  std::shared_ptr<void> memory = cuda::allocate(size);
  if (!memory) out_of_memory("the GPU", bytes, held);
  if (poison) cuda::fill_bytes(memory.get(), 0xff, size);
  held.take(size);
  void* const address = memory.get();
  return {address, [memory = std::move(memory), size, &held](void*) { held.current -= size; }};
}

std::shared_ptr<void> allocate(size_t bytes, Device device) {
  if (device == Device::cuda) return allocate_cuda(bytes);
  Account& held = account(device);
  const size_t rounded = (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0);
  const Block block = rounded < bytes ? Block{} : take_block(rounded);
  if (!block.memory) out_of_memory("this machine", bytes, held);
  if (poison) memset(block.memory, 0xff, rounded);
  held.take(rounded);
  return {block.memory, [rounded, block, &held](void*) {
            held.current -= rounded;
            give_back(block);
          }};
}

void fill_bytes(void* memory, Device device, int byte, size_t bytes) {
  if (device == Device::cuda) return cuda::fill_bytes(memory, byte, bytes);
  memset(memory, byte, bytes);
}

void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes) {
  if (to_device == Device::cuda || from_device == Device::cuda) return cuda::copy(to, to_device, from, from_device, bytes);
  memcpy(to, from, bytes);
}

MemoryStats memory_stats(Device device) { return {account(device).current, account(device).peak}; }
void reset_peak(Device device) { account(device).peak = account(device).current.load(); }
void set_poison(bool on) { poison = on; }

size_t physical_memory(Device device) {
  if (device == Device::cuda) return cuda::gpus().front().memory;
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
}

}  // namespace supra
