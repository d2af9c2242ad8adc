#pragma once
#include <cstddef>

// Fibers: threads of control that run one at a time and hand over by themselves. A
// thread of the processor has its own fibers and resumes them.

namespace supra::emulator {

struct FiberContext;

class Fiber {
 public:
  Fiber() = default;
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next resume() calls entry(), which must not return: it parks for good. What the fiber did before is
  // dropped where it stands.
  void start(void (*entry)());
  // Called by the scheduler: runs the fiber until it parks.
  void resume();
  // Called in the fiber that runs: goes back to the scheduler. `for_good`: it will not be resumed.
  void park(bool for_good = false);

 private:
  FiberContext* context_ = nullptr;
};

// Why fibers cannot be used in this build, or null: the thread sanitizer loses its way between stacks.
const char* fibers_trouble();

}  // namespace supra::emulator
