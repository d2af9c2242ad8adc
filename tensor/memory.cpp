#include "tensor/memory.h"

#include <cstdlib>

namespace supra {

static thread_local const Memory* of_thread = nullptr;

// The host's functions run with the C library's allocator, so what they allocate themselves is the host's.
void* Memory::take(size_t bytes, size_t alignment) const noexcept {
  if (allocate) {
    const UseMemory hosts(nullptr);
    return allocate(user, bytes, alignment);
  }
  if (alignment <= alignof(max_align_t)) return malloc(bytes);
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  return rounded < bytes ? nullptr : aligned_alloc(alignment, rounded);
}

void Memory::give_back(void* memory, size_t bytes) const noexcept {
  if (!release) return free(memory);
  const UseMemory hosts(nullptr);
  release(user, memory, bytes);
}

const Memory* memory_in_use() { return of_thread; }

UseMemory::UseMemory(const Memory* memory) : Scoped(of_thread, memory) {}

}  // namespace supra
