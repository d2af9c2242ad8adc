#include "tensor/recycle.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

namespace supra {
namespace {

// malloc is good at what is smaller.
constexpr size_t kSmallest = 1 << 17;

class Recycler {
 public:
  Block take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    Block block = {nullptr, bytes};
    // a training step asks for the same sizes again and again: what is much larger would be missed elsewhere
    const auto found = kept_.lower_bound(bytes);
    if (found != kept_.end() && found->first <= bytes + bytes / 64) {
      block = {found->second, found->first};
      kept_bytes_ -= block.bytes;
      kept_.erase(found);
    } else {
      release_above(std::max(most_, in_use_ + bytes), in_use_ + bytes);
      block.memory = aligned_alloc(64, bytes);
      if (!block.memory) {
        // what is kept may be what is missing
        release_above(0, 0);
        block.memory = aligned_alloc(64, bytes);
      }
      if (!block.memory) return block;
    }
    in_use_ += block.bytes;
    most_ = std::max(most_, in_use_);
    return block;
  }

  void give(Block block) {
    const std::lock_guard lock(mutex_);
    in_use_ -= block.bytes;
    kept_bytes_ += block.bytes;
    kept_.emplace(block.bytes, block.memory);
  }

 private:
  // Frees kept blocks until they and `in_use` exceed `most` by a sixteenth at most: each time the smallest
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
};

// Never destroyed: tensors in static storage are freed after it would have been.
Recycler& recycler() {
  static Recycler* const instance = new Recycler;
  return *instance;
}

}  // namespace

Block take_block(size_t bytes) {
  if (const Memory* from = memory_in_use()) return {from->take(bytes, 64), bytes, from};
  if (bytes < kSmallest) return {aligned_alloc(64, bytes), bytes};
  return recycler().take(bytes);
}

void give_back(Block block) {
  if (block.from) return block.from->give_back(block.memory, block.bytes);
  if (block.bytes < kSmallest) return free(block.memory);
  recycler().give(block);
}

}  // namespace supra
