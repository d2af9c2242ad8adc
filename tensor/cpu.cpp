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

const char* name(CpuLevel level) {
  static const char* names[] = {"baseline", "avx2", "avx512", "avx512bf16", "amx"};
  return names[static_cast<int>(level)];
}

#if defined(__x86_64__) && !defined(SUPRA_INFERENCE)
// The checks are in the order in which they are safe, on a system that saves AVX-512's registers. The result is no std::string,
// because that would lie in the memory of a host program and outlive it.
static const char* ask_for_amx() {
  unsigned a, b, c, d;
  constexpr unsigned kTiles = 1u << 24, kBf16 = 1u << 22;
  const bool known = __builtin_cpu_supports("avx512bf16") && __get_cpuid_count(7, 0, &a, &b, &c, &d);
  if (!known || (d & kTiles) == 0 || (d & kBf16) == 0) return "the processor has no matrix registers";
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
  static const char* const reason = ask_for_amx();
  return reason;
}

#else
const char* why_no_amx() { return "this program has no kernels for it"; }
#endif

CpuLevel best_cpu_level() {
#if defined(__x86_64__)
  // these check xgetbv too
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return CpuLevel::baseline;
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl") ||
      !__builtin_cpu_supports("avx512dq")) {
    return CpuLevel::avx2;
  }
#if !defined(SUPRA_INFERENCE)
  if (__builtin_cpu_supports("avx512bf16")) return *why_no_amx() ? CpuLevel::avx512bf16 : CpuLevel::amx;
#endif
  return CpuLevel::avx512;
#else
  return CpuLevel::baseline;
#endif
}

static CpuLevel wanted_cpu_level() {
  const CpuLevel best = best_cpu_level();
  const char* wanted = getenv("SUPRA_CPU");
  if (!wanted || !*wanted) return best;
  for (CpuLevel level : {CpuLevel::baseline, CpuLevel::avx2, CpuLevel::avx512, CpuLevel::avx512bf16, CpuLevel::amx}) {
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
