#include "kernels/simd.h"

#include "tensor/cpu.h"

namespace supra {

// A kernel that the build leaves out is null in its tables.
#define SUPRA_HERE(name, args) &name,
#define SUPRA_NOT_HERE(name, args) nullptr,
#if defined(SUPRA_EMBED)
#define SUPRA_TABLE SUPRA_SIMD_KERNELS(SUPRA_HERE, SUPRA_NOT_HERE, SUPRA_NOT_HERE)
#elif defined(SUPRA_INFERENCE)
#define SUPRA_TABLE SUPRA_SIMD_KERNELS(SUPRA_HERE, SUPRA_HERE, SUPRA_NOT_HERE)
#else
#define SUPRA_TABLE SUPRA_SIMD_KERNELS(SUPRA_HERE, SUPRA_HERE, SUPRA_HERE)
#endif

namespace baseline { static const Simd table = {SUPRA_TABLE}; }
#if defined(__x86_64__)
namespace avx2 { static const Simd table = {SUPRA_TABLE}; }
namespace avx512 { static const Simd table = {SUPRA_TABLE}; }
#if !defined(SUPRA_INFERENCE)
namespace avx512bf16 { static const Simd table = {SUPRA_TABLE}; }
namespace amx { static const Simd table = {SUPRA_TABLE}; }
#endif
#endif

const Simd& simd() {
  static const Simd* const tables[] = {&baseline::table,
#if defined(__x86_64__)
                                       &avx2::table, &avx512::table,
#if !defined(SUPRA_INFERENCE)
                                       &avx512bf16::table, &amx::table,
#endif
#endif
  };
  return *tables[static_cast<int>(cpu_level())];
}

}  // namespace supra
