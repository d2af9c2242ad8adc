#include "tensor/parallel.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "tensor/error.h"

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
  asm volatile("msr fpcr, %0" ::"r"(control | (uint64_t{1} << 24)));
#endif
}

int hardware_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

// A round is one parallel_for: the caller fills the job, raises `round` and runs part 0; worker i runs part i.
class Pool {
 public:
  explicit Pool(int size) {
    flush_denormals();
    for (int i = 1; i < size; i++) workers_.emplace_back([this, i] { work(i); });
  }

  ~Pool() {
    stop_ = true;
    round_.fetch_add(1);
    round_.notify_all();
    for (auto& worker : workers_) worker.join();
  }

  int size() const { return static_cast<int>(workers_.size()) + 1; }

  void run(int64_t n, int parts, Task task) {
    // another thread of the program has the workers: this one does its work alone
    const std::unique_lock alone(caller_, std::try_to_lock);
    if (!alone) return task(0, n);
    job_ = &task;
    n_ = n;
    parts_ = parts;
    error_ = nullptr;
    open_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
    round_.notify_all();
    part(0);
    for (int left = open_.load(std::memory_order_acquire), spins = 0; left > 0; left = open_.load(std::memory_order_acquire)) {
      if (++spins < kSpins) pause();
      else open_.wait(left, std::memory_order_acquire);
    }
    if (error_) std::rethrow_exception(error_);
  }

  static thread_local bool inside;

 private:
  // Long enough to bridge the gap between two kernels, short enough to leave the core to others soon.
  static constexpr int kSpins = 4000;

  static void pause() {
#if defined(__x86_64__)
    _mm_pause();
#else
    std::this_thread::yield();
#endif
  }

  void part(int i) {
    if (i >= parts_) return;
    inside = true;
    try {
      (*job_)(n_ * i / parts_, n_ * (i + 1) / parts_);
    } catch (...) {
      std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
    inside = false;
  }

  void work(int i) {
    flush_denormals();
    uint32_t seen = 0;
    while (true) {
      for (int spins = 0; round_.load(std::memory_order_acquire) == seen;) {
        if (++spins < kSpins) pause();
        else round_.wait(seen, std::memory_order_acquire);
      }
      seen++;
      if (stop_) return;
      part(i);
      if (open_.fetch_sub(1, std::memory_order_acq_rel) == 1) open_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  std::atomic<uint32_t> round_{0};
  std::atomic<int> open_{0};
  std::atomic<bool> stop_{false};
  Task* job_ = nullptr;
  int64_t n_ = 0;
  int parts_ = 0;
  std::mutex mutex_, caller_;
  std::exception_ptr error_;
};

thread_local bool Pool::inside = false;

// Starts on first use; its threads end with the program.
static std::unique_ptr<Pool>& pool() {
  static std::unique_ptr<Pool> instance = std::make_unique<Pool>(hardware_threads());
  return instance;
}

int threads() { return pool()->size(); }

void set_threads(int n) {
  CHECK(n >= 1 && n <= 1024, "threads: %d given, 1 to 1024 are possible", n);
  if (n != threads()) pool() = std::make_unique<Pool>(n);
}

void parallel_for(int64_t n, int64_t grain, Task f) {
  if (n <= 0) return;
  const int64_t wanted = std::max<int64_t>(1, n / std::max<int64_t>(1, grain));
  if (wanted == 1 || Pool::inside) {
    f(0, n);
    return;
  }
  const int parts = static_cast<int>(std::min<int64_t>(threads(), wanted));
  if (parts == 1) f(0, n);
  else pool()->run(n, parts, f);
}

}  // namespace supra
