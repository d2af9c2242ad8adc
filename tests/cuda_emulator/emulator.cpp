#include "tests/cuda_emulator/emulator.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <deque>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/mma.cuh"
#include "tests/cuda_emulator/fiber.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace supra::cuda {

constexpr size_t kMostShared = 227 * 1024, kGuard = 1024;
alignas(128) unsigned char shared_bytes_[kMostShared + kGuard];

}  // namespace supra::cuda

namespace supra::emulator {
namespace {

using cuda::kGuard, cuda::kMostShared, cuda::shared_bytes_;

constexpr int kWarp = 32;

enum class State { ready, at_barrier, in_warp, done };

struct PendingCopy {
  void* to;
  const void* from;
  size_t bytes, zeros;
  int group;
};

struct Thread {
  Fiber fiber;
  uint3 index;
  State state;
  const char *waits_in, *file;  // where it waits
  int line;
  void* operands;  // what it brings to an operation of the warp
  std::deque<PendingCopy> copies;
  int copy_groups;
};

// One operation of all lanes: works on the operands that each brought.
using WarpOperation = void (*)(Thread* lanes);

struct Warp {
  int live, arrived;
};

std::vector<Thread> threads;
std::vector<Warp> warps;
int thread_count, live, at_barrier;
Thread* self;
const std::function<void()>* body;
std::string failure;  // of the launch that runs

Schedule schedule = Schedule::in_order;
uint64_t schedule_seed = 1;

std::string here() { return format("block (%u,%u,%u)", blockIdx.x, blockIdx.y, blockIdx.z); }
std::string name_of(const Thread& thread) {
  return format("thread (%u,%u,%u)", thread.index.x, thread.index.y, thread.index.z);
}

// "threads 0-31 wait in __syncthreads (a.cu:41), threads 32-63 have returned"
const char* who_waits_where() {
  const auto same = [](const Thread& a, const Thread& b) {
    return a.state == b.state && (a.state == State::done || (a.waits_in == b.waits_in && a.line == b.line));
  };
  // static: a thread that ends in a fault never comes to free it
  static std::string text;
  text.clear();
  for (int begin = 0, end; begin < thread_count; begin = end) {
    const Thread& first = threads[begin];
    for (end = begin + 1; end < thread_count && same(first, threads[end]); end++) {
    }
    text += format("%sthreads %d-%d ", begin ? ", " : "", begin, end - 1);
    text += first.state == State::done ? "have returned"
                                       : format("wait in %s (%s:%d)", first.waits_in, first.file, first.line);
  }
  return text.c_str();
}

void wait(State state, const char* name, const char* file, int line) {
  self->state = state;
  self->waits_in = name, self->file = file, self->line = line;
}

void release(int begin, int end, State from) {
  for (int i = begin; i < std::min(end, thread_count); i++) {
    if (threads[i].state == from) threads[i].state = State::ready;
  }
}

bool at_one_place(int begin, int end) {
  const Thread* first = nullptr;
  for (int i = begin; i < std::min(end, thread_count); i++) {
    const Thread& thread = threads[i];
    if (thread.state == State::done) continue;
    if (first && (first->waits_in != thread.waits_in || first->line != thread.line)) return false;
    first = first ? first : &thread;
  }
  return true;
}

void release_barrier() {
  if (at_barrier == 0 || at_barrier < live) return;
  if (!at_one_place(0, thread_count)) fault("divergent barrier: %s", who_waits_where());
  at_barrier = 0;
  release(0, thread_count, State::at_barrier);
}

// The last lane to come does the work of all.
void release_warp(int first, WarpOperation operation) {
  Warp& warp = warps[first / kWarp];
  if (warp.arrived == 0 || warp.arrived < warp.live) return;
  if (!at_one_place(first, first + kWarp)) fault("divergent warp: %s", who_waits_where());
  if (operation) {
    if (warp.live < kWarp) {
      fault("%s (%s:%d) with %d lanes of a warp, it takes all 32", self->waits_in, self->file, self->line,
            warp.live);
    }
    operation(&threads[first]);
  }
  warp.arrived = 0;
  release(first, first + kWarp, State::in_warp);
}

void meet_warp(const char* name, unsigned mask, void* operands, WarpOperation operation, const char* file,
               int line) {
  if (mask != cuda::kWholeWarp)
    fault("%s (%s:%d): only masks of all 32 lanes are emulated", name, file, line);
  const int first = static_cast<int>(self - threads.data()) / kWarp * kWarp;
  wait(State::in_warp, name, file, line);
  self->operands = operands;
  warps[first / kWarp].arrived++;
  release_warp(first, operation);
  if (self->state != State::ready) self->fiber.park();
}

void run_thread() {
  (*body)();
  self->state = State::done;
  live--;
  const int first = static_cast<int>(self - threads.data()) / kWarp * kWarp;
  warps[first / kWarp].live--;
  // threads that returned are not waited for
  release_barrier();
  release_warp(first, nullptr);
  self->fiber.park(true);
}

std::vector<uint32_t> turns(size_t count, uint64_t salt) {
  std::vector<uint32_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  if (schedule == Schedule::reversed) std::reverse(order.begin(), order.end());
  if (schedule == Schedule::shuffled)
    std::shuffle(order.begin(), order.end(), std::mt19937_64(schedule_seed + salt));
  return order;
}

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_poison_memory_region(void const volatile*, size_t);
extern "C" void __asan_unpoison_memory_region(void const volatile*, size_t);
void show_shared_end(size_t bytes) {
  __asan_poison_memory_region(shared_bytes_ + bytes, sizeof shared_bytes_ - bytes);
}
void hide_shared_end() { __asan_unpoison_memory_region(shared_bytes_, sizeof shared_bytes_); }
#else
void show_shared_end(size_t) {}
void hide_shared_end() {}
#endif

// Gives those threads that are ready a turn each. False when there was none.
bool run_ready(const uint32_t* order, int count) {
  bool any = false;
  for (int i = 0; i < count && failure.empty(); i++) {
    if (threads[order[i]].state != State::ready) continue;
    any = true;
    self = &threads[order[i]];
    threadIdx = self->index;
    self->fiber.resume();
  }
  return any;
}

void run_block(size_t shared_bytes, uint64_t salt) {
  hide_shared_end();
  memset(shared_bytes_, 0xff, shared_bytes + kGuard);
  show_shared_end(shared_bytes);
  live = thread_count, at_barrier = 0;
  for (int i = 0; i < thread_count; i++) {
    Thread& thread = threads[i];
    const unsigned u = static_cast<unsigned>(i);
    thread.index = {u % blockDim.x, u / blockDim.x % blockDim.y, u / (blockDim.x * blockDim.y)};
    thread.state = State::ready;
    thread.copies.clear(), thread.copy_groups = 0;
    thread.fiber.start(run_thread);
  }
  for (size_t w = 0; w < warps.size(); w++) {
    warps[w] = {std::min(kWarp, thread_count - static_cast<int>(w) * kWarp), 0};
  }
  const std::vector<uint32_t> order = turns(thread_count, salt);
  bool progress = true;
  while (live > 0 && failure.empty()) {
    if (!progress) failure = here() + ": divergent barrier: " + who_waits_where();
    progress = false;
    // a warp goes on for as long as it can: nothing but a barrier keeps it behind the others
    for (int begin = 0; begin < thread_count; begin += kWarp) {
      const int end = std::min(begin + kWarp, thread_count);
      while (failure.empty() && run_ready(&order[begin], end - begin)) progress = true;
    }
  }
  hide_shared_end();
  const auto untouched = [](unsigned char byte) { return byte == 0xff; };
  if (failure.empty() &&
      !std::all_of(shared_bytes_ + shared_bytes, shared_bytes_ + shared_bytes + kGuard, untouched)) {
    failure = here() + format(": a write past its %zu bytes of shared memory", shared_bytes);
  }
}

std::string refused(dim3 grid, dim3 block, size_t shared_bytes, size_t allowed) {
  if (fibers_trouble()) return fibers_trouble();
  const uint64_t size = uint64_t{block.x} * block.y * block.z;
  if (size == 0 || size > 1024 || block.z > 64)
    return format("a block of %lu threads, 1 to 1024 are possible", size);
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "an empty grid";
  if (grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535) return "a grid above (2^31-1, 65535, 65535)";
  if (shared_bytes > allowed) {
    return format("%zu bytes of shared memory, %zu are allowed (cudaFuncSetAttribute)", shared_bytes,
                  allowed);
  }
  return "";
}

std::map<const void*, int>& allowed_bytes() {
  static std::map<const void*, int> by_kernel;
  return by_kernel;
}

}  // namespace

void fault(const char* what, ...) {
  char text[2048];
  va_list args;
  va_start(args, what);
  vsnprintf(text, sizeof text, what, args);
  va_end(args);
  failure = here() + ", " + name_of(*self) + ": " + text;
  self->fiber.park(true);
}

void set_schedule(Schedule order, uint64_t seed) { schedule = order, schedule_seed = seed; }

cudaError_t fail_with(cudaError_t error, const std::string& what);

cudaError_t allow_shared_bytes(const void* kernel, int bytes) {
  if (bytes > static_cast<int>(kMostShared)) {
    return fail_with(cudaErrorInvalidValue,
                     format("%d bytes of shared memory, a GPU has %zu", bytes, kMostShared));
  }
  allowed_bytes()[kernel] = bytes;
  return cudaSuccess;
}

cudaError_t run(const void* kernel, dim3 grid, dim3 block, size_t shared_bytes,
                const std::function<void()>& thread) {
  static std::mutex one_at_a_time;
  const std::lock_guard lock(one_at_a_time);
  const auto found = allowed_bytes().find(kernel);
  const std::string reason =
      refused(grid, block, shared_bytes, found == allowed_bytes().end() ? 48 * 1024 : found->second);
  if (!reason.empty()) return fail_with(cudaErrorInvalidConfiguration, reason);
  gridDim = grid, blockDim = block, body = &thread;
  thread_count = static_cast<int>(block.x * block.y * block.z);
  if (static_cast<int>(threads.size()) < thread_count) threads = std::vector<Thread>(thread_count);
  warps.resize((thread_count + kWarp - 1) / kWarp);
  failure.clear();
  for (uint32_t i : turns(size_t{grid.x} * grid.y * grid.z, 0)) {
    blockIdx = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
    run_block(shared_bytes, i);
    if (!failure.empty()) return fail_with(cudaErrorLaunchFailure, failure);
  }
  return cudaSuccess;
}

int lane() { return static_cast<int>(self - threads.data()) % kWarp; }

namespace {

struct Shuffle {
  uint32_t value, result;
  int source;
};

template <class Operands>
Operands& of(Thread& lane) {
  return *static_cast<Operands*>(lane.operands);
}

}  // namespace

uint32_t shuffle(const char* name, unsigned mask, uint32_t value, int source, const char* file, int line) {
  Shuffle operands = {value, 0, source};
  meet_warp(
      name, mask, &operands,
      [](Thread* lanes) {
        for (int i = 0; i < kWarp; i++) {
          Shuffle& mine = of<Shuffle>(lanes[i]);
          mine.result = of<Shuffle>(lanes[mine.source]).value;
        }
      },
      file, line);
  return operands.result;
}

}  // namespace supra::emulator

using namespace supra::emulator;

void __syncthreads(const char* file, int line) {
  wait(State::at_barrier, "__syncthreads", file, line);
  at_barrier++;
  release_barrier();
  if (self->state != State::ready) self->fiber.park();
}

void __syncwarp(unsigned mask, const char* file, int line) {
  meet_warp("__syncwarp", mask, nullptr, nullptr, file, line);
}

// The wrappers of PTX, as the manual of PTX ISA describes them.
namespace supra::cuda {

namespace {

struct Product {
  float* c;
  const uint32_t* a;
  uint32_t b[2];
};

// The whole product once; the lane that comes last writes the sums of all.
void multiply_in_warp(Thread* lanes) {
  float A[16][16], B[16][8];
  for (int lane = 0; lane < kWarp; lane++) {
    const Product& mine = of<Product>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int half = 0; half < 2; half++) {
      const auto number = [&](uint32_t pair) { return half ? high_bf16(pair) : low_bf16(pair); };
      for (int i = 0; i < 4; i++) A[g + i % 2 * 8][2 * t + i / 2 * 8 + half] = number(mine.a[i]);
      for (int i = 0; i < 2; i++) B[2 * t + i * 8 + half][g] = number(mine.b[i]);
    }
  }
  float C[16][8] = {};
  for (int m = 0; m < 16; m++) {
    for (int k = 0; k < 16; k++) {
      for (int n = 0; n < 8; n++) C[m][n] += A[m][k] * B[k][n];
    }
  }
  for (int lane = 0; lane < kWarp; lane++) {
    float* const c = of<Product>(lanes[lane]).c;
    for (int i = 0; i < 4; i++) c[i] += C[lane / 4 + i / 2 * 8][lane % 4 * 2 + i % 2];
  }
}

struct MatrixLoad {
  const Bf16* row;
  uint32_t* pairs;
};

template <bool transposed>
void load_matrices_of_warp(Thread* lanes) {
  for (int lane = 0; lane < kWarp; lane++) {
    for (int i = 0; i < 4; i++) {
      const auto element = [&](int row, int column) -> uint32_t {
        return of<MatrixLoad>(lanes[8 * i + row]).row[column].bits;
      };
      const int g = lane / 4, c = lane % 4 * 2;
      of<MatrixLoad>(lanes[lane]).pairs[i] =
          transposed ? element(c, g) | element(c + 1, g) << 16 : element(g, c) | element(g, c + 1) << 16;
    }
  }
}

// ldmatrix reads shared memory and nothing else.
void check_row(const Bf16* row) {
  check_aligned(row, 16);
  const auto* byte = reinterpret_cast<const unsigned char*>(row);
  if (byte < shared_bytes_ || byte + 16 > shared_bytes_ + kMostShared) {
    fault("ldmatrix of %p, which is not shared memory", static_cast<const void*>(row));
  }
}

}  // namespace

void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  Product operands = {c, a, {b0, b1}};
  meet_warp("mma", kWholeWarp, &operands, multiply_in_warp, "kernels/mma.cuh", 0);
}

void load_matrices(uint32_t (&m)[4], const Bf16* row) {
  check_row(row);
  MatrixLoad operands = {row, m};
  meet_warp("load_matrices", kWholeWarp, &operands, load_matrices_of_warp<false>, "kernels/mma.cuh", 0);
}

void load_matrices_transposed(uint32_t (&m)[4], const Bf16* row) {
  check_row(row);
  MatrixLoad operands = {row, m};
  meet_warp("load_matrices_transposed", kWholeWarp, &operands, load_matrices_of_warp<true>, "kernels/mma.cuh",
            0);
}

uint32_t pack_bf16(float low, float high) {
  return f32_to_bf16(low) | static_cast<uint32_t>(f32_to_bf16(high)) << 16;
}

void check_aligned(const void* address, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(address) % bytes) {
    fault("misaligned access: %zu bytes at %p", bytes, address);
  }
}

void copy_async_16(void* to, const void* from, bool zeros) {
  check_aligned(to, 16), check_aligned(from, 16);
  self->copies.push_back(
      {to, from, zeros ? size_t{0} : size_t{16}, zeros ? size_t{16} : size_t{0}, self->copy_groups});
}

void copy_async_commit() { self->copy_groups++; }

// Nothing is copied before it is waited for: code that forgets to wait reads NaN.
void copy_async_wait(int groups_left) {
  while (!self->copies.empty() && self->copies.front().group < self->copy_groups - groups_left) {
    const PendingCopy& copy = self->copies.front();
    memcpy(copy.to, copy.from, copy.bytes);
    memset(static_cast<char*>(copy.to) + copy.bytes, 0, copy.zeros);
    self->copies.pop_front();
  }
}

}  // namespace supra::cuda
