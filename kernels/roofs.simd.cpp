#include "kernels/simd.h"
#include "kernels/vec.h"

// What this processor can do at most: loops that do nothing but multiply and add, read, or copy.

namespace supra::SUPRA_LEVEL {

void fma_loop(double* flop, float* sink, int64_t rounds) {
  // enough chains to hide the latency of a fused multiply-add on two ports, few enough for 16 registers
  constexpr int kChains = 12;
  const Vec a = broadcast(sink[0]), b = broadcast(sink[1]);
  Vec chain[kChains];
  for (int k = 0; k < kChains; k++) chain[k] = broadcast(static_cast<float>(k));
  for (int64_t i = 0; i < rounds; i++) {
    for (int k = 0; k < kChains; k++) chain[k] = fma(chain[k], a, b);
  }
  for (int k = 1; k < kChains; k++) chain[0] += chain[k];
  sink[0] = sum(chain[0]);
  *flop = 2.0 * kLanes * kChains * static_cast<double>(rounds);
}

void read_loop(float* sum_of_all, const float* x, int64_t n) {
  constexpr int kChains = 8;
  Vec chain[kChains] = {};
  for (int64_t i = 0; i + kChains * kLanes <= n; i += kChains * kLanes) {
    for (int k = 0; k < kChains; k++) chain[k] += load(x + i + k * kLanes);
  }
  for (int k = 1; k < kChains; k++) chain[0] += chain[k];
  *sum_of_all = sum(chain[0]);
}

void copy_loop(float* y, const float* x, int64_t n, bool streaming) {
  int64_t i = 0;
  if (!streaming) {
    for (; i + kLanes <= n; i += kLanes) store(y + i, load(x + i));
    return;
  }
  // past the caches: lines that are written whole need not be read first
  for (; i + kLanes <= n; i += kLanes) {
    stream(y + i, load(x + i));
  }
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace supra::SUPRA_LEVEL
