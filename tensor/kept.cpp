#include "tensor/kept.h"

namespace supra {

static thread_local Kept* kept_elsewhere = nullptr;

Kept& kept() {
  static thread_local Kept own;
  return kept_elsewhere ? *kept_elsewhere : own;
}

UseKept::UseKept(Kept& here) : before_(kept_elsewhere) { kept_elsewhere = &here; }
UseKept::~UseKept() { kept_elsewhere = before_; }

}  // namespace supra
