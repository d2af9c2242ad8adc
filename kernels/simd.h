#pragma once
#include <stdint.h>

// The table of fast CPU kernels. Each is written once, in foo.simd.cpp, compiled once a level into a namespace of its own
// (see vec.h) and reached through simd(). They run in one thread on raw pointers, outputs first; the op beside them cuts
// the work with parallel_for. To add one: a line here, a definition there.

#define SUPRA_SIMD_KERNELS(KERNEL)                                                                                    \
  /* exp.simd.cpp: y[i] = e^x[i] */                                                                                    \
  KERNEL(exp_array, (float* y, const float* x, int64_t n))

namespace supra {

#define SUPRA_DECLARE(name, args) void name args;
namespace baseline { SUPRA_SIMD_KERNELS(SUPRA_DECLARE) }
#if defined(__x86_64__)
namespace avx2 { SUPRA_SIMD_KERNELS(SUPRA_DECLARE) }
namespace avx512 { SUPRA_SIMD_KERNELS(SUPRA_DECLARE) }
#endif
#undef SUPRA_DECLARE

struct Simd {
#define SUPRA_FIELD(name, args) void(*name) args;
  SUPRA_SIMD_KERNELS(SUPRA_FIELD)
#undef SUPRA_FIELD
};

// The kernels of the level in use (tensor/cpu.h).
const Simd& simd();

}  // namespace supra
