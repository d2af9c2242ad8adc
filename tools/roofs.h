#pragma once
#include <cstdint>
#include <string>

#include "tensor/dtype.h"

// The roofs of this machine, measured: no kernel of the level in use, and none of the GPU, can be faster.

namespace supra {

struct Roofs {
  int threads = 0;
  // 1e9 floating-point operations a second of fused multiply-adds in registers
  double fma_core = 0, fma = 0;
  // 1e9 bytes a second from memory, far beyond the caches; a copy counts what it reads and what it writes
  double read_core = 0, read = 0, copy_core = 0, copy = 0;
  bool copy_streams = false;  // the best copy wrote past the caches
  // 1e9 floating-point operations a second of products in bf16, their factors in the nearest cache; bf16x3 takes three
  double bf16_core = 0, bf16 = 0;
  // Of a GPU, which has this name; empty: the roofs are the CPU's. There fma is a product of large matrices, in the dtype of the bench,
  // threads are multiprocessors, and memory is read no faster than it is copied; nothing is of a core.
  std::string gpu = {};
  double products_bf16 = 0, products_f32 = 0;
};

// Each the best of several runs, and of those before: a roof is a maximum. `seconds` in all; `bytes` is read,
// or copied.
Roofs measure_roofs(double seconds, const Roofs& before = {}, int64_t bytes = 256 << 20);
// The same of the GPU; matrices have n rows and columns.
Roofs measure_gpu_roofs(Dtype dtype, double seconds, const Roofs& before = {}, int64_t n = 8192,
                        int64_t bytes = 1 << 30);

// So many floating-point operations, and bytes that must be read and written; by one thread or by all.
struct Work {
  double flop = 0, read = 0, written = 0;
  bool one_core = false;
};

// The roof that is nearest to some work: which, what counts there, and the seconds it leaves at least. What
// is written along with what is read goes at the speed of a copy.
struct Bound {
  const char* name;  // "fma", "bf16" or "bf16x3" where products are so, "matrix" on a GPU, or "memory"
  const char* unit;  // "GFLOP/s" or "GB/s"
  double amount;     // flop or bytes
  double seconds;
};
Bound bound_of(const Roofs& roofs, const Work& work);

}  // namespace supra
