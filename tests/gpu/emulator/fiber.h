#pragma once
#include <cstddef>

// Fibers: threads of control that run one at a time and switch by themselves. Each thread of the CPU has fibers of its own and
// resumes them.

namespace supra::emulator {

struct FiberContext;

class Fiber {
 public:
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next resume() calls entry(), which must not return but park for good. Whatever the fiber was doing before is dropped.
  void start(void (*entry)());
  // Called by the scheduler: runs the fiber until it parks.
  void resume();
  // Called in the fiber that runs: goes back to the scheduler. `for_good`: it will not be resumed.
  void park(bool for_good = false);

 private:
  FiberContext* context_ = nullptr;
};

// Why fibers cannot be used in this build, or null: the thread sanitizer cannot follow a switch between stacks.
const char* fibers_trouble();

}  // namespace supra::emulator
