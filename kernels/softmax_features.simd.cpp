#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void softmax_features_fwd(float* y, const float* x, int64_t N, int64_t f) {
  for (int64_t row = 0; row < N; row++, y += 2 * f, x += f) {
    const Vec any = broadcast(x[0]);
    Vec most = any, least = any;
    for_columns(f, [&](int64_t i, auto part) {
      const Vec v = part.mask(part.load(x + i), any);
      most = max(most, v), least = min(least, v);
    });
    const float high = max(most), low = -max(-least);
    Vec up = {}, down = {};
    for_columns(f, [&](int64_t i, auto part) {
      const Vec v = part.load(x + i), p = exp(v - high), n = exp(low - v);
      up += part.mask(p), down += part.mask(n);
      part.store(y + i, p), part.store(y + f + i, n);
    });
    const float p_factor = 1 / sum(up), n_factor = 1 / sum(down);
    for_columns(f, [&](int64_t i, auto part) {
      part.store(y + i, part.load(y + i) * p_factor);
      part.store(y + f + i, part.load(y + f + i) * n_factor);
    });
  }
}

void softmax_features_bwd(float* dx, const float* dy, const float* y, int64_t N, int64_t f) {
  for (int64_t row = 0; row < N; row++, dx += f, dy += 2 * f, y += 2 * f) {
    const float p_pull = column_sum(f, [&](int64_t i, auto part) { return part.load(y + i) * part.load(dy + i); });
    const float n_pull =
        column_sum(f, [&](int64_t i, auto part) { return part.load(y + f + i) * part.load(dy + f + i); });
    for_columns(f, [&](int64_t i, auto part) {
      const Vec p = part.load(y + i), n = part.load(y + f + i);
      part.store(dx + i, p * (part.load(dy + i) - p_pull) - n * (part.load(dy + f + i) - n_pull));
    });
  }
}

}  // namespace supra::SUPRA_LEVEL
