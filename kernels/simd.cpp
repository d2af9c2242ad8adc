#include "kernels/simd.h"

#include "tensor/cpu.h"

namespace supra {

namespace baseline {
#define SUPRA_ENTRY(name, args) &name,
static const Simd table = {SUPRA_SIMD_KERNELS(SUPRA_ENTRY)};
}  // namespace baseline
#if defined(__x86_64__)
namespace avx2 {
static const Simd table = {SUPRA_SIMD_KERNELS(SUPRA_ENTRY)};
}
namespace avx512 {
static const Simd table = {SUPRA_SIMD_KERNELS(SUPRA_ENTRY)};
}
#endif

const Simd& simd() {
#if defined(__x86_64__)
  static const Simd& chosen = cpu_level() == CpuLevel::avx512 ? avx512::table
                              : cpu_level() == CpuLevel::avx2 ? avx2::table
                                                              : baseline::table;
  return chosen;
#else
  return baseline::table;
#endif
}

}  // namespace supra
