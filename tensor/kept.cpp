#include "tensor/kept.h"

namespace supra {

static thread_local Kept* kept_elsewhere = nullptr;

Kept& kept() {
  if (kept_elsewhere) return *kept_elsewhere;
  // not made where it is not used: a host's thread would keep it, and the library, until it ends
  static thread_local Kept own;
  return own;
}

UseKept::UseKept(Kept& here) : Scoped(kept_elsewhere, &here) {}

}  // namespace supra
