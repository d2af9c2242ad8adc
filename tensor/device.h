#pragma once
#include <cstddef>
#include <memory>

// Where memory lies, and the one place it is taken from. Nothing else in the project allocates tensor memory.

namespace supra {

enum class Device { cpu };

struct MemoryStats {
  size_t current = 0;  // bytes held by tensors now
  size_t peak = 0;     // most bytes held since the start or the last reset_peak()
};

// 64-byte aligned memory of at least one byte, freed with the last owner. Throws Error when there is none left.
// Fresh memory is filled with NaN bytes when poisoning is on, so that a read before a write shows.
std::shared_ptr<void> allocate(size_t bytes, Device device = Device::cpu);

MemoryStats memory_stats();
void reset_peak();
void set_poison(bool on);  // tests; also on when SUPRA_POISON is set in the environment

// Bytes of memory this machine has.
size_t physical_memory();

}  // namespace supra
