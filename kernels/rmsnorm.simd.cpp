#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void rmsnorm_fwd(float* y, float* rstd, const float* x, const float* w, int64_t N, int64_t C, float eps) {
  const bool streamed = streams(y, N, C);
  for (int64_t row = 0; row < N; row++, y += C, x += C) {
    const float squares = column_sum(C, [&](int64_t i, auto part) {
      const Vec v = part.load(x + i);
      return v * v;
    });
    const float r = 1 / __builtin_sqrtf(squares / C + eps);
    rstd[row] = r;
    for_columns(C, streamed, [&](int64_t i, auto part) { part.put(y + i, part.load(w + i) * (part.load(x + i) * r)); });
  }
}

void rmsnorm_bwd(float* dx, float* dw, const float* dy, const float* x, const float* w, const float* rstd,
                 int64_t N, int64_t C) {
  const bool streamed = streams(dx, N, C);
  for (int64_t row = 0; row < N; row++, dx += C, dy += C, x += C) {
    const float r = rstd[row];
    const float dot = column_sum(
        C, [&](int64_t i, auto part) { return part.load(dy + i) * part.load(w + i) * part.load(x + i); });
    const float pull = dot * r * r * r / C;
    for_columns(C, streamed, [&](int64_t i, auto part) {
      const Vec g = part.load(dy + i), v = part.load(x + i);
      part.put(dx + i, g * part.load(w + i) * r - v * pull);
      part.store(dw + i, part.load(dw + i) + g * (v * r));
    });
  }
}

}  // namespace supra::SUPRA_LEVEL
