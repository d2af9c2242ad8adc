#pragma once
#include <cfenv>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "tensor/scoped.h"

// The thread pool. Work is cut into ranges that depend only on the sizes and the thread count, not on which thread runs them,
// so the same run gives the same bits. Denormals are flushed in every thread, the caller's included: powers of the decay are full of them.

namespace supra {

int threads();              // threads parallel_for uses, the caller included
void set_threads(int n);    // n >= 1; call it outside of parallel_for

// Flushes denormals to zero in the calling thread. set_threads() and the threads of the pool do this by themselves.
void flush_denormals();

// While this lives, the calling thread rounds to nearest and flushes denormals to zero. Its destructor restores the caller's
// floating-point mode. For threads that we did not start.
class OurRounding {
 public:
  OurRounding();
  ~OurRounding();
  OurRounding(const OurRounding&) = delete;
  OurRounding& operator=(const OurRounding&) = delete;

 private:
  fenv_t before_;
};

// A private pool beside the shared one: n - 1 threads and the calling thread. Its threads use the allocator of the thread that
// created them, and end with the last owner.
class Pool;
std::shared_ptr<Pool> make_pool(int n);

// While this object lives, parallel_for in the calling thread uses that pool. A pool of 1 has no threads of its own, and
// none are started for it.
struct UsePool : Scoped<Pool*> {
  explicit UsePool(Pool& pool);
};

// A reference to a callable, valid during the call it is passed to.
template <class F>
class FunctionRef;
template <class R, class... Args>
class FunctionRef<R(Args...)> {
 public:
  template <class F, class = std::enable_if_t<!std::is_same_v<std::decay_t<F>, FunctionRef>>>
  FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(std::addressof(f)))),
        call_([](void* object, Args... args) -> R { return (*static_cast<std::remove_reference_t<F>*>(object))(args...); }) {}
  R operator()(Args... args) const { return call_(object_, args...); }

 private:
  void* object_;
  R (*call_)(void*, Args...);
};

// Calls f(begin, end) on ranges that together cover [0, n) once. There are up to four ranges per thread, not shorter than
// `grain` if possible. Returns when all are done. A call from inside f runs in the calling thread alone. The first exception is rethrown.
void parallel_for(int64_t n, int64_t grain, FunctionRef<void(int64_t begin, int64_t end)> f);

}  // namespace supra
