#include "tensor/kept.h"

namespace supra {

static thread_local Kept* kept_elsewhere = nullptr;

Kept& kept() {
  if (kept_elsewhere) return *kept_elsewhere;
  // made only when it is used: a thread of a host program would keep it, and the library, until the thread ends
  static thread_local Kept own;
  return own;
}

UseKept::UseKept(Kept& here) : Scoped(kept_elsewhere, &here) {}

}  // namespace supra
