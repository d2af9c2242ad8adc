#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void layernorm_fwd(float* y, float* mean, float* rstd, const float* x, const float* w, const float* b,
                   int64_t N, int64_t C, float eps) {
  const bool streamed = streams(y, N, C);
  for (int64_t row = 0; row < N; row++, y += C, x += C) {
    const Moments m = moments(x, C, eps);
    mean[row] = m.mean;
    rstd[row] = m.rstd;
    for_columns(C, streamed, [&](int64_t i, auto part) {
      Vec v = (part.load(x + i) - m.mean) * m.rstd;
      if (w) v *= part.load(w + i);
      if (b) v += part.load(b + i);
      part.put(y + i, v);
    });
  }
}

void layernorm_bwd(float* dx, float* dw, float* db, const float* dy, const float* x, const float* w,
                   const float* mean, const float* rstd, int64_t N, int64_t C) {
  const bool streamed = streams(dx, N, C);
  for (int64_t row = 0; row < N; row++, dx += C, dy += C, x += C) {
    const float m = mean[row], r = rstd[row];
    auto weighted = [&](int64_t i, auto part) { return w ? part.load(dy + i) * part.load(w + i) : part.load(dy + i); };
    auto normalised = [&](int64_t i, auto part) { return (part.load(x + i) - m) * r; };
    const float shift = column_sum(C, weighted) / C;
    const float pull = column_sum(C, [&](int64_t i, auto part) { return weighted(i, part) * normalised(i, part); }) / C;
    for_columns(C, streamed, [&](int64_t i, auto part) {
      const Vec g = part.load(dy + i), n = normalised(i, part);
      part.put(dx + i, (weighted(i, part) - shift - n * pull) * r);
      part.store(dw + i, part.load(dw + i) + g * n);
      part.store(db + i, part.load(db + i) + g);
    });
  }
}

}  // namespace supra::SUPRA_LEVEL
