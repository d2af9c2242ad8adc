#pragma once
#include <cstddef>

#include "tensor/memory.h"

// CPU memory that was freed is kept for the next block of its size: a step of a model asks for the same sizes again and
// again, and pages fresh from the system cost more than many a kernel that writes to them. To take a small block that is kept
// costs a fraction of a call of aligned_alloc.
// Blocks of 128 KiB or more that are in use and kept exceed the most that was in use at once by a sixteenth, never by more.
// At most 4 MiB of smaller ones are kept. A thread that was told whose memory to take (memory.h) takes it there, and nothing
// is kept.

namespace supra {

struct Block {
  void* memory;
  size_t bytes;  // at least what was asked for
  const Memory* from = nullptr;
};

// Address sanitizer finds a small block that is used after it was freed only if it was really freed.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeepsSmallBlocks = false;
#elif defined(__has_feature)
constexpr bool kKeepsSmallBlocks = !__has_feature(address_sanitizer);
#else
constexpr bool kKeepsSmallBlocks = true;
#endif

// 64-byte aligned; memory is null when there is none left. `bytes` is a multiple of 64.
Block take_block(size_t bytes);
void give_back(Block block);

}  // namespace supra
