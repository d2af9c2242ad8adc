#pragma once
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "tests/fuzz_formats.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

// How much memory the reading of a hostile file takes, all of the heap and not only tensors.

namespace supra {

// Sanitizers take memory of their own.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kMeasuresMemory = false;
#elif defined(__has_feature)
constexpr bool kMeasuresMemory = !__has_feature(address_sanitizer) && !__has_feature(thread_sanitizer);
#else
constexpr bool kMeasuresMemory = true;
#endif

inline size_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  size_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

// The bytes that f takes at its peak, whether or not it ends with an Error. It runs in a process of its own,
// where no memory lies free.
template <class F>
size_t peak_bytes(F f) {
  int ends[2];
  CHECK(pipe(ends) == 0, "cannot make a pipe");
#if defined(__GLIBC__)
  // before the fork: the child's peak begins with what the parent holds then
  malloc_trim(0);
#endif
  const pid_t child = fork();
  CHECK(child >= 0, "cannot fork");
  if (child == 0) {
    const size_t before = resident_bytes();
    complaint_of(f);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const size_t most = static_cast<size_t>(usage.ru_maxrss) * 1024, taken = most - std::min(most, before);
    _exit(write(ends[1], &taken, sizeof taken) == sizeof taken ? 0 : 1);
  }
  close(ends[1]);
  size_t taken = 0;
  const bool measured = read(ends[0], &taken, sizeof taken) == sizeof taken;
  close(ends[0]);
  waitpid(child, nullptr, 0);
  CHECK(measured, "the process that measures memory ended early");
  return taken;
}

// Fails where f takes more than `times` its input's size, and what a process touches as it runs on.
template <class F>
void expect_takes_at_most(double times, std::string_view input, F f) {
  if (!kMeasuresMemory) return;
  const double taken = static_cast<double>(peak_bytes(f)), size = static_cast<double>(input.size());
  EXPECT_LE(taken, times * size + (4 << 20)) << taken / size << " times " << input.substr(0, 24);
}

}  // namespace supra
