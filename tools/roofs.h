#pragma once
#include <cstdint>

// The roofs of this machine, measured: no kernel of the level in use can be faster.

namespace supra {

struct Roofs {
  int threads = 0;
  // 1e9 floating-point operations a second of fused multiply-adds in registers
  double fma_core = 0, fma = 0;
  // 1e9 bytes a second from memory, far beyond the caches; a copy counts what it reads and what it writes
  double read_core = 0, read = 0, copy_core = 0, copy = 0;
  bool copy_streams = false;  // the best copy wrote past the caches
};

// Each the best of several runs, `seconds` in all: a roof is a maximum. `bytes` is read, or copied.
Roofs measure_roofs(double seconds = 1.5, int64_t bytes = 256 << 20);

// Seconds that no work of this size can go below: so many floating-point operations, and so many bytes that
// must be read and written, on one core or on all. What is written along with what is read goes at the speed
// of a copy.
struct Work {
  double flop = 0, read = 0, written = 0;
};
double compute_seconds(const Roofs& roofs, const Work& work, bool one_core = false);
double memory_seconds(const Roofs& roofs, const Work& work, bool one_core = false);

}  // namespace supra
