#include "kernels/simd.h"

#include "tensor/cpu.h"

namespace supra {

namespace baseline {
#define SUPRA_ENTRY(name, args) &name,
#if defined(SUPRA_EMBED)
#define SUPRA_SPARED(name, args) nullptr,
#else
#define SUPRA_SPARED SUPRA_ENTRY
#endif
static const Simd table = {SUPRA_SIMD_KERNELS(SUPRA_ENTRY, SUPRA_SPARED)};
}  // namespace baseline
#if defined(__x86_64__)
namespace avx2 {
static const Simd table = {SUPRA_SIMD_KERNELS(SUPRA_ENTRY, SUPRA_SPARED)};
}
namespace avx512 {
static const Simd table = {SUPRA_SIMD_KERNELS(SUPRA_ENTRY, SUPRA_SPARED)};
}
#endif

const Simd& simd() {
#if defined(__x86_64__)
  static const Simd* const tables[] = {&baseline::table, &avx2::table, &avx512::table};
  return *tables[static_cast<int>(cpu_level())];
#else
  return baseline::table;
#endif
}

}  // namespace supra
