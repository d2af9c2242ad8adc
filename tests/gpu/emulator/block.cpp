#include "tests/gpu/emulator/block.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>

#include "tensor/cuda.cuh"

constinit thread_local uint3 threadIdx = {}, blockIdx = {};
constinit thread_local dim3 blockDim, gridDim;

namespace supra::cuda {

constexpr size_t kGuard = 1024;
alignas(128) constinit thread_local unsigned char shared_bytes_[emulator::kMostShared + kGuard] = {};

}  // namespace supra::cuda

namespace supra::emulator {

using cuda::kGuard;
using SharedBytes = unsigned char[kMostShared + kGuard];

static thread_local Block* running = nullptr;

Block& Block::current() { return *running; }

static std::string here() { return format("block (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z); }

// ---- waiting

// "threads 0-31 wait in __syncthreads (a.cu:41), threads 32-63 have returned". The text lives as long as
// the block, because a thread that ends in a fault cannot free it.
const char* Block::who_waits_where() {
  const auto same = [](const Thread& a, const Thread& b) {
    return a.state == b.state && (a.state == State::done || (a.waits_in == b.waits_in && a.line == b.line));
  };
  waiting_.clear();
  for (int begin = 0, end; begin < thread_count_; begin = end) {
    const Thread& first = threads_[begin];
    for (end = begin + 1; end < thread_count_ && same(first, threads_[end]); end++) {
    }
    waiting_ += format("%sthreads %d-%d ", begin ? ", " : "", begin, end - 1);
    waiting_ += first.state == State::done
                    ? "have returned"
                    : format("wait in %s (%s:%d)", first.waits_in, first.file, first.line);
  }
  return waiting_.c_str();
}

void Block::wait(State state, const char* name, const char* file, int line) {
  self_->state = state;
  self_->waits_in = name, self_->file = file, self_->line = line;
}

void Block::release(int begin, int end, State from) {
  for (int i = begin; i < std::min(end, thread_count_); i++) {
    if (threads_[i].state == from) threads_[i].state = State::ready;
  }
}

bool Block::at_one_place(int begin, int end) const {
  const Thread* first = nullptr;
  for (int i = begin; i < std::min(end, thread_count_); i++) {
    const Thread& thread = threads_[i];
    if (thread.state == State::done) continue;
    if (first && (first->waits_in != thread.waits_in || first->line != thread.line)) return false;
    first = first ? first : &thread;
  }
  return true;
}

void Block::release_block() {
  if (at_barrier_ == 0 || at_barrier_ < live_) return;
  if (!at_one_place(0, thread_count_)) emulator::fault("divergent barrier: %s", who_waits_where());
  at_barrier_ = 0;
  release(0, thread_count_, State::at_barrier);
}

void Block::release_warp(int first, WarpOperation operation) {
  Warp& warp = warps_[first / kWarp];
  if (warp.arrived == 0 || warp.arrived < warp.live) return;
  if (!at_one_place(first, first + kWarp)) emulator::fault("divergent warp: %s", who_waits_where());
  if (operation) {
    if (warp.live < kWarp) {
      emulator::fault("%s (%s:%d) with %d lanes of a warp, it takes all 32", self_->waits_in, self_->file,
                      self_->line, warp.live);
    }
    operation(&threads_[first]);
  }
  warp.arrived = 0;
  release(first, first + kWarp, State::in_warp);
}

void Block::meet_block(const char* name, const char* file, int line) {
  wait(State::at_barrier, name, file, line);
  at_barrier_++;
  release_block();
  if (self_->state != State::ready) self_->fiber.park();
}

void Block::meet_warp(const char* name, unsigned mask, void* operands, WarpOperation operation,
                      const char* file, int line) {
  if (mask != cuda::kWholeWarp) {
    emulator::fault("%s (%s:%d): only masks of all 32 lanes are emulated", name, file, line);
  }
  wait(State::in_warp, name, file, line);
  self_->operands = operands;
  warp().arrived++;
  release_warp(first_of_warp(), operation);
  if (self_->state != State::ready) self_->fiber.park();
}

void Block::fault(const char* words) {
  const uint3 i = self_->index;
  failure_ = here() + format(", thread (%u,%u,%u): ", i.x, i.y, i.z) + words;
  self_->fiber.park(true);
}

void Block::check_shared(const char* what, const void* bytes, size_t count) {
  const auto* const byte = static_cast<const unsigned char*>(bytes);
  const unsigned char* const begin = cuda::shared_bytes_;
  if (byte < begin || byte + count > begin + shared_bytes_) {
    emulator::fault("%s of %p, which is not shared memory", what, bytes);
  }
}

// ---- running

std::vector<uint32_t> turns(const Launch& launch, size_t count, uint64_t salt) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (launch.schedule == Schedule::reversed) std::reverse(order.begin(), order.end());
  if (launch.schedule == Schedule::shuffled)
    std::shuffle(order.begin(), order.end(), std::mt19937_64(launch.seed + salt));
  return order;
}

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_poison_memory_region(void const volatile*, size_t);
extern "C" void __asan_unpoison_memory_region(void const volatile*, size_t);
static void show_shared_end(size_t bytes) {
  __asan_poison_memory_region(cuda::shared_bytes_ + bytes, sizeof(SharedBytes) - bytes);
}
static void hide_shared_end() { __asan_unpoison_memory_region(cuda::shared_bytes_, sizeof(SharedBytes)); }
#else
static void show_shared_end(size_t) {}
static void hide_shared_end() {}
#endif

void Block::run_thread() {
  (*running->body_)();
  running->end_thread();
}

// Threads that have returned do not count.
void Block::end_thread() {
  self_->state = State::done;
  live_--;
  warp().live--;
  release_block();
  release_warp(first_of_warp(), nullptr);
  self_->fiber.park(true);
}

void Block::start() {
  live_ = thread_count_, at_barrier_ = 0;
  for (int i = 0; i < thread_count_; i++) {
    Thread& thread = threads_[i];
    const unsigned u = static_cast<unsigned>(i);
    thread.index = {u % blockDim.x, u / blockDim.x % blockDim.y, u / (blockDim.x * blockDim.y)};
    thread.state = State::ready;
    thread.copies.clear(), thread.copy_groups = 0, thread.exchanges = 0;
    thread.fiber.start(run_thread);
  }
  for (size_t w = 0; w < warps_.size(); w++) {
    warps_[w].live = std::min(kWarp, thread_count_ - static_cast<int>(w) * kWarp), warps_[w].arrived = 0;
  }
}

// Runs each thread that is ready until it waits. False if there was none.
bool Block::give_turns(const uint32_t* order, int count) {
  bool any = false;
  for (int i = 0; i < count && failure_.empty(); i++) {
    Thread& thread = threads_[order[i]];
    if (thread.state != State::ready) continue;
    any = true;
    self_ = &thread;
    threadIdx = thread.index;
    thread.fiber.resume();
  }
  return any;
}

std::string Block::run(const Launch& launch, uint32_t number) {
  running = this;
  const dim3 grid = launch.grid;
  gridDim = grid, blockDim = launch.block;
  blockIdx = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
  thread_count_ = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  if (static_cast<int>(threads_.size()) < thread_count_) threads_ = std::vector<Thread>(thread_count_);
  warps_.resize((thread_count_ + kWarp - 1) / kWarp);
  body_ = &launch.thread, shared_bytes_ = launch.shared_bytes;
  failure_.clear();

  memset(cuda::shared_bytes_, 0xff, shared_bytes_ + kGuard);
  show_shared_end(shared_bytes_);
  start();
  const std::vector<uint32_t> order = turns(launch, thread_count_, number);
  bool progress = true;
  while (live_ > 0 && failure_.empty()) {
    if (!progress) failure_ = here() + ": divergent barrier: " + who_waits_where();
    progress = false;
    // a warp runs as long as it can: only a barrier keeps it together with the others
    for (int begin = 0; begin < thread_count_; begin += kWarp) {
      const int end = std::min(begin + kWarp, thread_count_);
      while (failure_.empty() && give_turns(&order[begin], end - begin)) progress = true;
    }
  }
  hide_shared_end();
  const unsigned char* const end = cuda::shared_bytes_ + shared_bytes_;
  const auto untouched = [](unsigned char byte) { return byte == 0xff; };
  if (failure_.empty() && !std::all_of(end, end + kGuard, untouched)) {
    failure_ = here() + format(": a write past its %zu bytes of shared memory", shared_bytes_);
  }
  return failure_;
}

}  // namespace supra::emulator
