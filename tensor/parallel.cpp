#include "tensor/parallel.h"

#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tensor/cores.h"
#include "tensor/error.h"
#include "tensor/memory.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace supra {

using Task = FunctionRef<void(int64_t, int64_t)>;

static uint64_t floating_point_control() {
#if defined(__x86_64__)
  return _mm_getcsr();
#elif defined(__aarch64__)
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  return control;
#else
  return 0;
#endif
}

static void set_floating_point_control([[maybe_unused]] uint64_t control) {
#if defined(__x86_64__)
  _mm_setcsr(static_cast<uint32_t>(control));
#elif defined(__aarch64__)
  asm volatile("msr fpcr, %0" ::"r"(control));
#endif
}

#if defined(__x86_64__)
// bit 15: results are flushed, bit 6: operands are read as zero
static constexpr uint64_t kUsual = 0x1f80, kFlush = 0x8040;
#else
static constexpr uint64_t kUsual = 0, kFlush = uint64_t{1} << 24;
#endif

void flush_denormals() { set_floating_point_control(floating_point_control() | kFlush); }

// fesetround() is for the C library, which on x86 rounds what it prints and reads as the x87 unit would.
OurRounding::OurRounding() : before_(floating_point_control()), rounding_before_(fegetround()) {
  fesetround(FE_TONEAREST);
  set_floating_point_control(kUsual | kFlush);
}
OurRounding::~OurRounding() {
  fesetround(rounding_before_);
  set_floating_point_control(before_);
}

int hardware_threads() { return usable_cores().count; }

// A round is one parallel_for. It is cut into parts, and whoever is free takes the next one, the caller included: a
// thread that the machine holds up delays the round by one part, not by its share. A thread with nothing to do spins for
// the gap between two kernels, then sleeps, so that a busy machine can give its core to the one everybody waits for.
class Pool {
 public:
  explicit Pool(int size) {
    flush_denormals();
    try {
      for (int i = 1; i < size; i++) workers_.emplace_back([this, memory = memory_in_use()] { work(memory); });
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Pool() { stop(); }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void run(int64_t n, int parts, Task task) {
    // another thread of the program has the workers: this one does its work alone
    const std::unique_lock alone(caller_, std::try_to_lock);
    if (!alone) return task(0, n);
    job_ = &task;
    n_ = n;
    parts_ = parts;
    error_ = nullptr;
    finished_.store(0, std::memory_order_relaxed);
    const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
    ticket_.store(uint64_t{round} << 32 | static_cast<uint32_t>(parts), std::memory_order_release);
    round_.store(round, std::memory_order_release);
    round_.notify_all();
    take_parts();
    for (int done; (done = finished_.load(std::memory_order_acquire)) != parts;) wait_for_change(finished_, done);
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  static thread_local bool inside;

 private:
  static void pause() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
  }

  template <class T>
  static void wait_for_change(const std::atomic<T>& value, T seen) {
    constexpr auto kSpin = std::chrono::microseconds(100);
    const auto start = std::chrono::steady_clock::now();
    do {
      for (int i = 0; i < 16; i++) {
        if (value.load(std::memory_order_acquire) != seen) return;
        pause();
      }
    } while (std::chrono::steady_clock::now() - start < kSpin);
    value.wait(seen, std::memory_order_acquire);
  }

  // A ticket is good if the round is still the one it was read in; then the round cannot end before this part does, and
  // its job may be read.
  void take_parts() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(ticket) > 0) {
      if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel)) continue;
      const int parts = parts_;
      part(parts - static_cast<int>(static_cast<uint32_t>(ticket)));
      if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == parts) finished_.notify_all();
      ticket = ticket_.load(std::memory_order_acquire);
    }
  }

  void part(int i) {
    inside = true;
    try {
      (*job_)(n_ * i / parts_, n_ * (i + 1) / parts_);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    inside = false;
  }

  void stop() {
    stop_ = true;
    round_.fetch_add(1);
    round_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  void work(const Memory* memory) {
    const UseMemory here(memory);
    flush_denormals();
    for (uint32_t seen = 0; !stop_; seen = round_.load(std::memory_order_acquire)) {
      take_parts();
      wait_for_change(round_, seen);
    }
  }

  std::vector<std::thread> workers_;
  std::atomic<uint32_t> round_{0};
  // the round in the high half, in the low half how many parts nobody has taken yet
  std::atomic<uint64_t> ticket_{0};
  std::atomic<int> finished_{0};
  std::atomic<bool> stop_{false};
  Task* job_ = nullptr;
  int64_t n_ = 0;
  int parts_ = 0;
  std::mutex mutex_, caller_;
  std::exception_ptr error_;
};

thread_local bool Pool::inside = false;

// Starts on first use; its threads end with the program.
static std::unique_ptr<Pool>& everybodys() {
  static std::unique_ptr<Pool> instance = std::make_unique<Pool>(hardware_threads());
  return instance;
}

static thread_local Pool* own_pool = nullptr;

static Pool& pool() { return own_pool ? *own_pool : *everybodys(); }

std::shared_ptr<Pool> make_pool(int n) { return std::make_shared<Pool>(n); }
UsePool::UsePool(Pool& pool) : Scoped(own_pool, &pool) {}

int threads() { return pool().size(); }

void set_threads(int n) {
  CHECK(n >= 1 && n <= 1024, "threads: %d given, 1 to 1024 are possible", n);
  if (n != threads()) everybodys() = std::make_unique<Pool>(n);
}

void parallel_for(int64_t n, int64_t grain, Task f) {
  if (n <= 0) return;
  const int64_t wanted = std::max<int64_t>(1, n / std::max<int64_t>(1, grain)), all = threads();
  if (wanted == 1 || all == 1 || Pool::inside) {
    f(0, n);
    return;
  }
  // few parts: one a thread; else several, in equal numbers
  constexpr int64_t kPartsPerThread = 4;
  const int64_t each = std::min(kPartsPerThread, wanted / all);
  pool().run(n, static_cast<int>(each > 1 ? each * all : std::min(all, wanted)), f);
}

}  // namespace supra
