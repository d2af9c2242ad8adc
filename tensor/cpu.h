#pragma once

// What the processor can do. Kernels exist once a level; the best one the machine has is used, or the one that
// SUPRA_CPU=baseline|avx2|avx512|avx512bf16|amx names (tests run them all). The last two are avx512 but for
// products of bf16 factors; builds for inference alone, which have none, know them not.

namespace supra {

enum class CpuLevel { baseline, avx2, avx512, avx512bf16, amx };

const char* name(CpuLevel level);
CpuLevel best_cpu_level();  // by cpuid and by what the operating system saves
// Why level amx cannot be used; empty where it can. Its registers are large, and the kernel saves them for a process
// that asked alone: the first call asks, and from then on this process gets no signal stacks too small for them.
const char* why_no_amx();
CpuLevel cpu_level();       // the one in use; throws Error when SUPRA_CPU names none or more than the machine has
void set_cpu_level(CpuLevel level);  // tests run every level in one process

}  // namespace supra
