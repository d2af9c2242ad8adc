#pragma once
#include <memory>
#include <utility>
#include <vector>

#include "tensor/scoped.h"

// Workspaces and tables that a thread keeps between calls of kernels, one of each type. They belong to the
// thread, or to the owner that UseKept names: those of an embedded engine are freed with the engine,
// whichever thread called it.

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

// While this object lives, the calling thread keeps its workspaces in `here`.
struct UseKept : Scoped<Kept*> {
  explicit UseKept(Kept& here);
};

}  // namespace supra
