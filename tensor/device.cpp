#include "tensor/device.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "tensor/cuda.h"
#include "tensor/error.h"
#include "tensor/recycle.h"

namespace supra {

// The bytes that tensors hold on a device.
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

// Bytes at the beginning of a block of CPU memory, in which std::shared_ptr stores its counts. So a tensor takes one
// allocation.
constexpr size_t kHeader = 64;

// An allocator that puts the counts of a std::shared_ptr into the header of a block, and frees the block with them.
template <class T>
struct InHeader {
  using value_type = T;
  Block block;

  explicit InHeader(Block b) : block(b) {}
  template <class U>
  InHeader(const InHeader<U>& other) : block(other.block) {}
  T* allocate(size_t) {
    static_assert(sizeof(T) <= kHeader && alignof(T) <= kHeader);
    return static_cast<T*>(block.memory);
  }
  void deallocate(T*, size_t) { give_back(block); }
};

std::shared_ptr<void> allocate(size_t bytes, Device device) {
  if (device == Device::cuda) return allocate_cuda(bytes);
  const size_t rounded = (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0), whole = rounded + kHeader;
  const Block block = rounded < bytes || whole < bytes ? Block{} : take_block(whole);
  if (!block.memory) out_of_memory("this machine", bytes, account(device));
  char* const memory = static_cast<char*>(block.memory) + kHeader;
  if (poison) memset(memory, 0xff, rounded);
  account(device).take(rounded);
  return {memory, [rounded](void*) { account(Device::cpu).current -= rounded; }, InHeader<char>(block)};
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
