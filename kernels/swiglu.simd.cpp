#include "kernels/activation_vec.h"
#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void swiglu_fwd(float* y, const float* gate_up, int64_t N, int64_t F) {
  const bool streamed = streams(y, N, F);
  for (int64_t row = 0; row < N; row++, y += F, gate_up += 2 * F) {
    for_columns(F, streamed, [=](int64_t i, auto part) { part.put(y + i, Silu::value(part.load(gate_up + i)) * part.load(gate_up + F + i)); });
  }
}

void swiglu_bwd(float* dgate_up, const float* dy, const float* gate_up, int64_t N, int64_t F) {
  const bool streamed = streams(dgate_up, N, F);
  for (int64_t row = 0; row < N; row++, dgate_up += 2 * F, dy += F, gate_up += 2 * F) {
    for_columns(F, streamed, [=](int64_t i, auto part) {
      const Vec gate = part.load(gate_up + i), out = part.load(dy + i);
      part.put(dgate_up + i, out * part.load(gate_up + F + i) * Silu::slope(gate));
      part.put(dgate_up + F + i, out * Silu::value(gate));
    });
  }
}

}  // namespace supra::SUPRA_LEVEL
