#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "tensor/scoped.h"

// What a thread keeps from one call of a kernel to the next: workspaces and tables, one of each type. They
// lie with the thread, or where UseKept says: what an embedded engine keeps goes when the engine does,
// whoever called it.

namespace supra {

class Kept {
 public:
  template <class T>
  T& get() {
    for (const auto& [kind, value] : values_) {
      if (kind == &kind_of<T>) return *static_cast<T*>(value.get());
    }
    values_.emplace_back(&kind_of<T>, std::make_shared<T>());
    return *static_cast<T*>(values_.back().second.get());
  }

 private:
  template <class T>
  static inline char kind_of;

  std::vector<std::pair<const char*, std::shared_ptr<void>>> values_;
};

Kept& kept();

// Makes the calling thread keep things in `here` while it lives.
struct UseKept : Scoped<Kept*> {
  explicit UseKept(Kept& here);
};

}  // namespace supra
