#pragma once
#include <mutex>
#include <unordered_map>

#include "tests/supra/embed/embed_model.h"

namespace supra {

// A host's memory: knows what is out, and refuses what it is told to, or some of it.
class Host {
 public:
  explicit Host(int threads = 1) : options_(options_of(threads)) {
    options_.user = this;
    options_.allocate = [](void* user, size_t bytes, size_t alignment) {
      return static_cast<Host*>(user)->take(bytes, alignment);
    };
    options_.release = [](void* user, void* memory, size_t bytes) {
      static_cast<Host*>(user)->give_back(memory, bytes);
    };
  }

  const supra_options* options() const { return &options_; }
  size_t bytes() const { return bytes_; }
  size_t most_bytes() const { return most_bytes_; }  // there were at once
  size_t blocks() const { return out_.size(); }
  // The nth request from now on is refused, and `times` - 1 after it; 0: none.
  void refuse(size_t nth, size_t times = 1) {
    const std::lock_guard lock(mutex_);
    asked_ = 0;
    first_ = nth;
    last_ = nth + times - 1;
    refused_ = false;
  }
  // Of all requests from now on every so many is refused, which ones is left to chance; 0: none.
  void refuse_some(uint64_t one_in) {
    const std::lock_guard lock(mutex_);
    one_in_ = one_in;
  }
  bool refused() const { return refused_; }
  size_t requests() const { return asked_; }  // since refuse() was called

 private:
  void* take(size_t bytes, size_t alignment) {
    const std::lock_guard lock(mutex_);
    asked_++;
    if ((first_ > 0 && asked_ >= first_ && asked_ <= last_) || (one_in_ > 0 && random_.below(one_in_) == 0)) {
      refused_ = true;
      return nullptr;
    }
    EXPECT_GT(bytes, 0u);
    void* const memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    out_[memory] = bytes;
    bytes_ += bytes;
    most_bytes_ = std::max(most_bytes_, bytes_);
    return memory;
  }
  void give_back(void* memory, size_t bytes) {
    const std::lock_guard lock(mutex_);
    const auto found = out_.find(memory);
    ASSERT_TRUE(found != out_.end());
    EXPECT_EQ(found->second, bytes);
    bytes_ -= bytes;
    out_.erase(found);
    free(memory);
  }

  supra_options options_;
  std::mutex mutex_;
  std::unordered_map<void*, size_t> out_;
  size_t bytes_ = 0, most_bytes_ = 0, asked_ = 0, first_ = 0, last_ = 0;
  uint64_t one_in_ = 0;
  Philox random_{11};
  bool refused_ = false;
};

}  // namespace supra
