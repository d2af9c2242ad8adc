#include "tensor/parallel.h"

#include <algorithm>
#include <atomic>
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

void flush_denormals() {
#if defined(__x86_64__)
  // bit 15: results are flushed, bit 6: operands are read as zero
  _mm_setcsr(_mm_getcsr() | 0x8040);
#elif defined(__aarch64__)
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  asm volatile("msr fpcr, %0" ::"r"(control | uint64_t{1} << 24));
#endif
}

OurRounding::OurRounding() {
  fegetenv(&before_);
  fesetenv(FE_DFL_ENV);
  flush_denormals();
}
OurRounding::~OurRounding() { fesetenv(&before_); }

// A round is one parallel_for, cut into parts. Each free thread takes the next part, the caller included, so a thread that the
// machine holds up delays the round by one part, not by its share. An idle thread spins for the gap between two kernels and
// then sleeps, so that a busy machine can give its core to another thread.
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
    // another thread of the program uses the workers: this thread works alone
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

  // A ticket is valid while its round lasts. The round cannot end before the part of that ticket, so the job may be read.
  void take_parts() {
    uint64_t ticket = ticket_.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(ticket) > 0) {
      if (!ticket_.compare_exchange_weak(ticket, ticket - 1, std::memory_order_acq_rel)) continue;
      const int parts = parts_, i = parts - static_cast<int>(static_cast<uint32_t>(ticket));
      try {
        const Scoped in_part(inside, true);
        (*job_)(n_ * i / parts, n_ * (i + 1) / parts);
      } catch (...) {
        std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
      if (finished_.fetch_add(1, std::memory_order_acq_rel) + 1 == parts) finished_.notify_all();
      ticket = ticket_.load(std::memory_order_acquire);
    }
  }

  void stop() {
    stop_ = true;
    round_.fetch_add(1);
    round_.notify_all();
    for (std::thread& worker : workers_) worker.join();
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
  // high half: the round; low half: the number of parts not yet taken
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

// The shared pool starts at first use; its threads end with the program.
static std::unique_ptr<Pool>& shared_pool() {
  static std::unique_ptr<Pool> instance = std::make_unique<Pool>(usable_cores().count);
  return instance;
}

static thread_local Pool* own_pool = nullptr;

static Pool& pool() { return own_pool ? *own_pool : *shared_pool(); }

std::shared_ptr<Pool> make_pool(int n) { return std::make_shared<Pool>(n); }
UsePool::UsePool(Pool& pool) : Scoped(own_pool, &pool) {}

int threads() { return pool().size(); }

void set_threads(int n) {
  CHECK(n >= 1 && n <= 1024, "threads: %d given, 1 to 1024 are possible", n);
  if (n != threads()) shared_pool() = std::make_unique<Pool>(n);
}

void parallel_for(int64_t n, int64_t grain, Task f) {
  if (n <= 0) return;
  const int64_t wanted = std::max<int64_t>(1, n / std::max<int64_t>(1, grain)), all = threads();
  if (wanted == 1 || all == 1 || Pool::inside) return f(0, n);
  // few parts: one per thread; otherwise several, the same number for each
  constexpr int64_t kPartsPerThread = 4;
  const int64_t each = std::min(kPartsPerThread, wanted / all);
  pool().run(n, static_cast<int>(each > 1 ? each * all : std::min(all, wanted)), f);
}

}  // namespace supra
