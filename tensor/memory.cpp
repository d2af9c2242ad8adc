#include "tensor/memory.h"

#include <cstdlib>

namespace supra {

static thread_local const Memory* of_thread = nullptr;

void* Memory::take(size_t bytes, size_t alignment) const noexcept {
  if (allocate) return allocate(user, bytes, alignment);
  if (alignment <= alignof(max_align_t)) return malloc(bytes);
  const size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  return rounded < bytes ? nullptr : aligned_alloc(alignment, rounded);
}

void Memory::give_back(void* memory, size_t bytes) const noexcept {
  if (release) return release(user, memory, bytes);
  free(memory);
}

const Memory* memory_in_use() { return of_thread; }

UseMemory::UseMemory(const Memory* memory) : before_(of_thread) { of_thread = memory; }
UseMemory::~UseMemory() { of_thread = before_; }

}  // namespace supra
