#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "tests/gpu/emulator/cuda_runtime.h"
#include "tests/gpu/emulator/emulator.h"
#include "tests/gpu/emulator/fiber.h"

// One block of a launch: its threads, which of them wait and where, and its shared memory. All of it belongs to one thread of
// the CPU, which runs one block at a time.

namespace supra::emulator {

constexpr int kWarp = 32;

struct Launch {
  dim3 grid, block;
  size_t shared_bytes;
  const std::function<void()>& thread;  // the body of every thread
  Schedule schedule;
  uint64_t seed;
};

// The numbers below `count`, in the order in which they run.
std::vector<uint32_t> turns(const Launch& launch, size_t count, uint64_t salt);

enum class State { ready, at_barrier, in_warp, done };

struct PendingCopy {
  void* to;
  const void* from;  // null: zeros
  int group;
};

struct Thread {
  Fiber fiber;
  uint3 index;
  State state;
  const char *waits_in, *file;  // where it waits
  int line;
  void* operands;  // its operands for an operation of the warp
  int exchanges;
  std::deque<PendingCopy> copies;
  int copy_groups;
};

struct Warp {
  int live, arrived;
  uint32_t values[2][kWarp];
};

// One operation of all lanes, on the operands of each.
using WarpOperation = void (*)(Thread* lanes);

class Block {
 public:
  // Runs the block of this number to its end. Returns what went wrong, or "".
  std::string run(const Launch& launch, uint32_t number);

  // The kernel calls these by way of the functions of cuda_runtime.h:

  // The block that runs in this thread of the CPU.
  static Block& current();
  Thread& self() { return *self_; }
  int lane() const { return number_of_self() % kWarp; }
  Warp& warp() { return warps_[number_of_self() / kWarp]; }
  void meet_block(const char* name, const char* file, int line);
  // The last lane that arrives does the operation for all lanes; null: there is no operation.
  void meet_warp(const char* name, unsigned mask, void* operands, WarpOperation operation, const char* file,
                 int line);
  // Ends the launch, does not return.
  void fault(const char* words);
  // A fault if these bytes are not all in the block's shared memory.
  void check_shared(const char* what, const void* bytes, size_t count);

 private:
  void start();
  bool give_turns(const uint32_t* order, int count);
  static void run_thread();
  void end_thread();
  void wait(State state, const char* name, const char* file, int line);
  void release(int begin, int end, State from);
  void release_block();
  void release_warp(int first, WarpOperation operation);
  bool at_one_place(int begin, int end) const;
  const char* who_waits_where();
  int number_of_self() const { return static_cast<int>(self_ - threads_.data()); }
  int first_of_warp() const { return number_of_self() / kWarp * kWarp; }

  std::vector<Thread> threads_;  // at least as many as the block has
  std::vector<Warp> warps_;
  int thread_count_ = 0, live_ = 0, at_barrier_ = 0;
  size_t shared_bytes_ = 0;
  const std::function<void()>* body_ = nullptr;
  Thread* self_ = nullptr;
  std::string failure_, waiting_;
};

}  // namespace supra::emulator
