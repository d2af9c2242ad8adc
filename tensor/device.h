#pragma once
#include <cstddef>
#include <memory>

// Where memory lies, and the one place it is taken from. Nothing else in the project allocates tensor memory.

namespace supra {

enum class Device { cpu, cuda };

const char* name(Device device);  // "cpu", "cuda"

struct MemoryStats {
  size_t current = 0;  // bytes held by tensors now
  size_t peak = 0;     // most bytes held since the start or the last reset_peak()
};

// 64-byte aligned memory of at least one byte, freed with the last owner. Throws Error when there is none left, or when
// no GPU can be used for Device::cuda; tensor/cuda.h tells of streams, which the GPU's memory follows.
// Fresh memory is filled with NaN bytes when poisoning is on, so that a read before a write shows.
std::shared_ptr<void> allocate(size_t bytes, Device device = Device::cpu);

void fill_bytes(void* memory, Device device, int byte, size_t bytes);
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes);

MemoryStats memory_stats(Device device = Device::cpu);
void reset_peak(Device device = Device::cpu);
void set_poison(bool on);  // tests; also on when SUPRA_POISON is set in the environment

// Bytes of memory this machine, or its first GPU, has.
size_t physical_memory(Device device = Device::cpu);

}  // namespace supra
