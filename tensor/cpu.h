#pragma once

// The features of the processor. Each kernel is compiled once for each level. The best level of the machine is used, or the one
// named by SUPRA_CPU=baseline|avx2|avx512|avx512bf16|amx (tests run them all). The last two differ from avx512 only in
// products of bf16 factors, which builds for inference do not have.

namespace supra {

enum class CpuLevel { baseline, avx2, avx512, avx512bf16, amx };

const char* name(CpuLevel level);
CpuLevel best_cpu_level();  // from cpuid and from the registers that the operating system saves
// Why level amx cannot be used; empty if it can. Its registers are large, and Linux saves them only for processes that ask. The
// first call asks; from then on, Linux refuses this process signal stacks that are too small for the registers.
const char* why_no_amx();
CpuLevel cpu_level();       // the level in use; throws Error if SUPRA_CPU is unknown or above the machine's level
void set_cpu_level(CpuLevel level);  // tests run every level in one process

}  // namespace supra
