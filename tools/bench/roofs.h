#pragma once
#include <cstdint>
#include <string>

#include "tensor/dtype.h"

// The roofs: measured limits of this machine. No kernel of the level in use, or of the GPU, can be faster.

namespace supra {

struct Roofs {
  int threads = 0;
  // 1e9 floating-point operations a second of fused multiply-adds in registers
  double fma_core = 0, fma = 0;
  // 1e9 bytes per second from memory, far beyond the caches; a copy counts the bytes it reads and those it writes
  double read_core = 0, read = 0, copy_core = 0, copy = 0;
  bool copy_streams = false;  // the best copy used streaming stores
  // 1e9 floating-point operations a second of products in bf16, their factors in the nearest cache; bf16x3 takes three
  double bf16_core = 0, bf16 = 0;
  // Of a GPU, which has this name; empty: the roofs are the CPU's. There fma is a product of large matrices, in the dtype of the bench,
  // threads are multiprocessors, and memory is read no faster than it is copied; nothing is of a core.
  std::string gpu = {};
  double products_bf16 = 0, products_f32 = 0;
};

// Each roof is the best of several runs, including earlier calls. `seconds` is the total time; `bytes` are read or
// copied.
Roofs measure_roofs(double seconds, const Roofs& before = {}, int64_t bytes = 256 << 20);
// The same for the GPU; matrices have n rows and columns.
Roofs measure_gpu_roofs(Dtype dtype, double seconds, const Roofs& before = {}, int64_t n = 8192,
                        int64_t bytes = 1 << 30);

// A number of floating-point operations and of bytes that must be read and written, by one thread or by all.
struct Work {
  double flop = 0, read = 0, written = 0;
  bool one_core = false;
};

// The roof that limits some work: its name, the amount that counts, and the least possible seconds. Work that
// reads and writes is limited by the speed of a copy.
struct Bound {
  const char* name;  // "fma", "bf16" or "bf16x3" where products are so, "matrix" on a GPU, or "memory"
  const char* unit;  // "GFLOP/s" or "GB/s"
  double amount;     // flop or bytes
  double seconds;
};
Bound bound_of(const Roofs& roofs, const Work& work);

}  // namespace supra
