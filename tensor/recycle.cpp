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
    in_use_ += bytes;
    most_ = std::max(most_, in_use_);
    Block block = {nullptr, bytes};
    // a training step asks for the same sizes again and again: what is much larger would be missed elsewhere
    const auto found = kept_.lower_bound(bytes);
    if (found != kept_.end() && found->first <= bytes + bytes / 64) {
      block = {found->second, found->first};
      in_use_ += block.bytes - bytes;
      kept_bytes_ -= block.bytes;
      kept_.erase(found);
    }
    const size_t limit = most_ + most_ / 16;
    while (!kept_.empty() && in_use_ + kept_bytes_ > limit) release(in_use_ + kept_bytes_ - limit);
    if (!block.memory) block.memory = aligned_alloc(64, bytes);
    if (!block.memory) in_use_ -= bytes;
    return block;
  }

  void give(Block block) {
    const std::lock_guard lock(mutex_);
    in_use_ -= block.bytes;
    kept_bytes_ += block.bytes;
    kept_.emplace(block.bytes, block.memory);
  }

 private:
  // The smallest block that is enough, or the largest there is.
  void release(size_t bytes) {
    auto found = kept_.lower_bound(bytes);
    if (found == kept_.end()) found = std::prev(found);
    free(found->second);
    kept_bytes_ -= found->first;
    kept_.erase(found);
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
  if (bytes < kSmallest) return {aligned_alloc(64, bytes), bytes};
  return recycler().take(bytes);
}

void give_back(Block block) {
  if (block.bytes < kSmallest) return free(block.memory);
  recycler().give(block);
}

}  // namespace supra
