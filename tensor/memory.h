#pragma once
#include <cstddef>

#include "tensor/scoped.h"

// The allocator that a thread uses: the C library's, or that of a host program that embeds supra and has its own
// functions. Tensors use it; so do `new` and `delete` if supra/embed/allocator.cpp is linked.

namespace supra {

struct Memory {
  // Set both or neither (then malloc and free). `alignment` is a power of two. They may be called from any
  // thread.
  void* (*allocate)(void* user, size_t bytes, size_t alignment) = nullptr;
  void (*release)(void* user, void* memory, size_t bytes) = nullptr;
  void* user = nullptr;

  void* take(size_t bytes, size_t alignment) const noexcept;  // null if there is none left
  void give_back(void* memory, size_t bytes) const noexcept;
};

// The allocator that was set for the calling thread; null: the C library's.
const Memory* memory_in_use();

// While this object lives, the calling thread allocates from `memory`.
struct UseMemory : Scoped<const Memory*> {
  explicit UseMemory(const Memory* memory);
};

}  // namespace supra
