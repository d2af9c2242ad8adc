#include "tensor/cpu.h"

#include <cstdlib>
#include <cstring>

#include "tensor/error.h"

namespace supra {

const char* name(CpuLevel level) {
  static const char* names[] = {"baseline", "avx2", "avx512"};
  return names[static_cast<int>(level)];
}

CpuLevel best_cpu_level() {
#if defined(__x86_64__)
  // these check xgetbv too
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return avx2 && avx512 ? CpuLevel::avx512 : avx2 ? CpuLevel::avx2 : CpuLevel::baseline;
#else
  return CpuLevel::baseline;
#endif
}

static CpuLevel wanted_cpu_level() {
  const CpuLevel best = best_cpu_level();
  const char* wanted = getenv("SUPRA_CPU");
  if (!wanted || !*wanted) return best;
  for (CpuLevel level : {CpuLevel::baseline, CpuLevel::avx2, CpuLevel::avx512}) {
    if (strcmp(wanted, name(level)) != 0) continue;
    CHECK(level <= best, "SUPRA_CPU=%s: this processor has %s at most", wanted, name(best));
    return level;
  }
  fail("SUPRA_CPU=%s: use baseline, avx2 or avx512", wanted);
}

static CpuLevel& level_in_use() {
  static CpuLevel level = wanted_cpu_level();
  return level;
}

CpuLevel cpu_level() { return level_in_use(); }

void set_cpu_level(CpuLevel level) {
  CHECK(level <= best_cpu_level(), "cpu level %s: this processor has %s at most", name(level), name(best_cpu_level()));
  level_in_use() = level;
}

}  // namespace supra
