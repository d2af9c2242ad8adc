#pragma once
#include <cstddef>

#include "tensor/memory.h"

// Freed CPU memory is kept for the next block of the same size. A step of a model asks for the same sizes again and again, and
// new pages from the system cost more than many kernels that write to them. Reusing a small block costs a fraction of a call of
// aligned_alloc.
// For blocks of 128 KiB or more, the bytes in use and kept together never exceed the largest number of bytes in use at once by
// more than a sixteenth. At most 4 MiB of smaller blocks are kept. A thread with an allocator of its own (memory.h) uses that
// one, and nothing is kept.

namespace supra {

struct Block {
  void* memory;
  size_t bytes;  // at least the number asked for
  const Memory* from = nullptr;
};

// Address sanitizer finds a use after free only if the block was really freed.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepsSmallBlocks = false;
#elif defined(__has_feature)
constexpr bool kKeepsSmallBlocks = !__has_feature(address_sanitizer);
#else
constexpr bool kKeepsSmallBlocks = true;
#endif

// 64-byte aligned; memory is null if there is none left. `bytes` is a multiple of 64.
Block take_block(size_t bytes);
void give_back(Block block);

}  // namespace supra
