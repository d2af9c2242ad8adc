#pragma once

// What the processor can do. Kernels exist once a level; the best one the machine has is used, or the one that
// SUPRA_CPU=baseline|avx2|avx512 names (tests run them all).

namespace supra {

enum class CpuLevel { baseline, avx2, avx512 };

const char* name(CpuLevel level);
CpuLevel best_cpu_level();  // by cpuid and by what the operating system saves
CpuLevel cpu_level();       // the one in use; throws Error when SUPRA_CPU names none or more than the machine has
void set_cpu_level(CpuLevel level);  // tests run every level in one process

}  // namespace supra
