#include "tensor/recycle.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <utility>

namespace supra {
namespace {

constexpr size_t kLarge = 1 << 17;
constexpr size_t kMostSmall = 1 << 22;

class Recycler {
 public:
  Block take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    return bytes < kLarge ? take_small(bytes) : take_large(bytes);
  }

  void give(Block block) {
    const std::lock_guard lock(mutex_);
    block.bytes < kLarge ? give_small(block) : give_large(block);
  }

 private:
  // A small block that is kept begins with the address of the next one of its size.
  struct Small {
    Small* next;
  };

  Block take_small(size_t bytes) {
    Small*& first = small_[bytes / 64];
    if (!first) return {allocate(bytes), bytes};
    Small* const block = first;
    first = block->next;
    small_bytes_ -= bytes;
    return {block, bytes};
  }

  void give_small(Block block) {
    if (!kKeepsSmallBlocks) return free(block.memory);
    if (small_bytes_ + block.bytes > kMostSmall) release_small();
    Small*& first = small_[block.bytes / 64];
    first = new (block.memory) Small{first};
    small_bytes_ += block.bytes;
  }

  void release_small() {
    for (Small*& first : small_) {
      while (first) free(std::exchange(first, first->next));
    }
    small_bytes_ = 0;
  }

  Block take_large(size_t bytes) {
    Block block = {nullptr, bytes};
    // a training step asks for the same sizes again and again, and a much larger block is needed for its own size
    const auto found = kept_.lower_bound(bytes);
    if (found != kept_.end() && found->first <= bytes + bytes / 64) {
      block = {found->second, found->first};
      kept_bytes_ -= block.bytes;
      kept_.erase(found);
    } else {
      release_above(std::max(most_, in_use_ + bytes), in_use_ + bytes);
      block.memory = allocate(bytes);
      if (!block.memory) return block;
    }
    in_use_ += block.bytes;
    most_ = std::max(most_, in_use_);
    return block;
  }

  void give_large(Block block) {
    in_use_ -= block.bytes;
    kept_bytes_ += block.bytes;
    kept_.emplace(block.bytes, block.memory);
  }

  void* allocate(size_t bytes) {
    if (void* const memory = aligned_alloc(64, bytes)) return memory;
    // the kept blocks may hold the missing memory
    release_above(0, 0);
    release_small();
    return aligned_alloc(64, bytes);
  }

  // Frees large kept blocks until they and `in_use` exceed `most` by a sixteenth at most: each time the smallest
  // block that is enough, or the largest there is.
  void release_above(size_t most, size_t in_use) {
    const size_t limit = most + most / 16;
    while (!kept_.empty() && in_use + kept_bytes_ > limit) {
      auto found = kept_.lower_bound(in_use + kept_bytes_ - limit);
      if (found == kept_.end()) found = std::prev(found);
      free(found->second);
      kept_bytes_ -= found->first;
      kept_.erase(found);
    }
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> kept_;
  size_t in_use_ = 0, kept_bytes_ = 0, most_ = 0;
  Small* small_[kLarge / 64] = {};
  size_t small_bytes_ = 0;
};

// Never destroyed, because tensors in static storage are freed later.
Recycler& recycler() {
  static Recycler* const instance = new Recycler;
  return *instance;
}

}  // namespace

Block take_block(size_t bytes) {
  if (const Memory* from = memory_in_use()) return {from->take(bytes, 64), bytes, from};
  return recycler().take(bytes);
}

void give_back(Block block) {
  if (block.from) return block.from->give_back(block.memory, block.bytes);
  recycler().give(block);
}

}  // namespace supra
