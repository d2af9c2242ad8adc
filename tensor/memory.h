#pragma once
#include <cstddef>

#include "tensor/scoped.h"

// Whose memory a thread takes: the C library's, or that of a host which embeds supra and has functions of its
// own. Tensors ask here; so do `new` and `delete` where supra/embed/allocator.cpp is linked.

namespace supra {

struct Memory {
  // Both or none: none are malloc and free. `alignment` is a power of two. They may be called from any
  // thread.
  void* (*allocate)(void* user, size_t bytes, size_t alignment) = nullptr;
  void (*release)(void* user, void* memory, size_t bytes) = nullptr;
  void* user = nullptr;

  void* take(size_t bytes, size_t alignment) const noexcept;  // null when there is none left
  void give_back(void* memory, size_t bytes) const noexcept;
};

// What the calling thread was told to take from; null: from the C library.
const Memory* memory_in_use();

// Makes the calling thread take from `memory` while it lives.
struct UseMemory : Scoped<const Memory*> {
  explicit UseMemory(const Memory* memory);
};

}  // namespace supra
