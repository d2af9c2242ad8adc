#include "kernels/activation_vec.h"
#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void gated_fwd(float* y, const float* gate_up, int64_t N, int64_t F, Activation f) {
  const bool streamed = streams(y, N, F);
  with_activation(f, [=](auto f) {
    for (int64_t row = 0; row < N; row++) {
      const float *gate = gate_up + row * 2 * F, *up = gate + F;
      float* out = y + row * F;
      for_columns(F, streamed, [=](int64_t i, auto part) { part.put(out + i, f.value(part.load(gate + i)) * part.load(up + i)); });
    }
  });
}

void gated_bwd(float* dgate_up, const float* dy, const float* gate_up, int64_t N, int64_t F, Activation f) {
  const bool streamed = streams(dgate_up, N, F);
  with_activation(f, [=](auto f) {
    for (int64_t row = 0; row < N; row++) {
      const float *gate = gate_up + row * 2 * F, *up = gate + F, *d = dy + row * F;
      float *dgate = dgate_up + row * 2 * F, *dup = dgate + F;
      for_columns(F, streamed, [=](int64_t i, auto part) {
        const Vec g = part.load(gate + i), out = part.load(d + i);
        part.put(dgate + i, out * part.load(up + i) * f.slope(g));
        part.put(dup + i, out * f.value(g));
      });
    }
  });
}

}  // namespace supra::SUPRA_LEVEL
