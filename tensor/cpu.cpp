#include "tensor/cpu.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tensor/error.h"

#if defined(__x86_64__) && !defined(SUPRA_INFERENCE)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace supra {

static constexpr CpuLevel kLevels[] = {CpuLevel::baseline, CpuLevel::avx2, CpuLevel::avx512, CpuLevel::avx512bf16, CpuLevel::amx};

const char* name(CpuLevel level) {
  static const char* names[] = {"baseline", "avx2", "avx512", "avx512bf16", "amx"};
  return names[static_cast<int>(level)];
}

#if defined(__x86_64__) && !defined(SUPRA_INFERENCE)

static bool has_avx512bf16() { return __builtin_cpu_supports("avx512bf16"); }

// In the order in which each question may be asked; called where the system saves AVX-512's registers. No std::string: it
// would be made in a host's memory, and outlive that.
static const char* ask_for_amx() {
  unsigned a, b, c, d;
  constexpr unsigned kTiles = 1u << 24, kBf16 = 1u << 22;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kTiles) == 0 || (d & kBf16) == 0) return "the processor has no matrix registers";
  unsigned saved, high;
  asm volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
  if ((saved >> 17 & 3) != 3) return "the operating system does not save the matrix registers";
  // some hypervisors show the feature without it
  if (!__get_cpuid_count(0x1d, 0, &a, &b, &c, &d) || a < 1) return "the hypervisor hides the size of the matrix registers";
#if defined(__linux__)
  constexpr int kRequest = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequest, kTileData) == 0) return "";
  static char refusal[100];
  snprintf(refusal, sizeof refusal, "the kernel refuses the matrix registers: %s", strerror(errno));
  return refusal;
#else
  return "on this system nobody knows how to ask for the matrix registers";
#endif
}

const char* why_no_amx() {
  static const char* const reason = has_avx512bf16() ? ask_for_amx() : "the processor has no matrix registers";
  return reason;
}

static CpuLevel best_avx512() {
  if (!has_avx512bf16()) return CpuLevel::avx512;
  return *why_no_amx() ? CpuLevel::avx512bf16 : CpuLevel::amx;
}

#else

const char* why_no_amx() { return "this program has no kernels for it"; }
static CpuLevel best_avx512() { return CpuLevel::avx512; }

#endif

CpuLevel best_cpu_level() {
#if defined(__x86_64__)
  // these check xgetbv too
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return avx2 && avx512 ? best_avx512() : avx2 ? CpuLevel::avx2 : CpuLevel::baseline;
#else
  return CpuLevel::baseline;
#endif
}

static CpuLevel wanted_cpu_level() {
  const CpuLevel best = best_cpu_level();
  const char* wanted = getenv("SUPRA_CPU");
  if (!wanted || !*wanted) return best;
  for (CpuLevel level : kLevels) {
    if (strcmp(wanted, name(level)) != 0) continue;
    CHECK(level <= best, "SUPRA_CPU=%s: this processor has %s at most%s%s", wanted, name(best), level == CpuLevel::amx ? ": " : "",
          level == CpuLevel::amx ? why_no_amx() : "");
    return level;
  }
  fail("SUPRA_CPU=%s: use baseline, avx2, avx512, avx512bf16 or amx", wanted);
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
