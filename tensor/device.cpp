#include "tensor/device.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

#include "tensor/error.h"

namespace supra {

static std::atomic<size_t> current_bytes{0}, peak_bytes{0};
static std::atomic<bool> poison{getenv("SUPRA_POISON") != nullptr};

std::shared_ptr<void> allocate(size_t bytes, Device) {
  const size_t rounded = (bytes + 63) / 64 * 64 + (bytes == 0 ? 64 : 0);
  void* memory = rounded < bytes ? nullptr : aligned_alloc(64, rounded);
  CHECK(memory, "out of memory: %.1f MB asked for, %.1f MB held by tensors (use a smaller batch or a shorter sequence)",
        bytes / 1e6, current_bytes.load() / 1e6);
  if (poison) memset(memory, 0xff, rounded);
  const size_t now = current_bytes += rounded;
  size_t seen = peak_bytes;
  while (now > seen && !peak_bytes.compare_exchange_weak(seen, now)) {
  }
  return {memory, [rounded](void* p) {
            current_bytes -= rounded;
            free(p);
          }};
}

MemoryStats memory_stats() { return {current_bytes, peak_bytes}; }
void reset_peak() { peak_bytes = current_bytes.load(); }
void set_poison(bool on) { poison = on; }

size_t physical_memory() {
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGE_SIZE));
}

}  // namespace supra
