#pragma once
#include <cstddef>
#include <memory>

// Devices, and the only place where tensor memory is allocated.

namespace supra {

enum class Device { cpu, cuda };

const char* name(Device device);  // "cpu", "cuda"

struct MemoryStats {
  size_t current = 0;  // bytes held by tensors now
  size_t peak = 0;     // most bytes held since the start or the last reset_peak()
};

// Memory aligned to 64 bytes, of at least one byte, freed with its last owner. Throws Error if there is none left, or if
// Device::cuda is asked for and no GPU can be used. On the GPU, allocation is ordered by streams (tensor/cuda.h).
// If poisoning is on, new memory is filled with NaN bytes, so that a read before a write becomes visible.
std::shared_ptr<void> allocate(size_t bytes, Device device = Device::cpu);

void fill_bytes(void* memory, Device device, int byte, size_t bytes);
void copy_bytes(void* to, Device to_device, const void* from, Device from_device, size_t bytes);

MemoryStats memory_stats(Device device = Device::cpu);
void reset_peak(Device device = Device::cpu);
void set_poison(bool on);  // tests; also on when SUPRA_POISON is set in the environment

// The memory of this machine, or of its first GPU, in bytes.
size_t physical_memory(Device device = Device::cpu);

}  // namespace supra
