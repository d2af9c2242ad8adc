#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void rope(float* y, const float* x, const float* cosine, const float* sine, bool interleaved, int64_t H, int64_t K,
          int64_t dims, int64_t head_step, float direction) {
  const int64_t half = dims / 2;
  for (int64_t h = 0; h < H; h++, y += K, x += K, cosine += head_step, sine += head_step) {
    if (interleaved) {
      for_columns(dims, [=](int64_t i, auto part) {
        const Vec v = part.load(x + i), s = part.load(sine + i) * direction;
        part.store(y + i, fma(swap_lanes<1>(v), pick<1, 0>(-s, s), v * part.load(cosine + i)));
      });
    } else {
      for_columns(half, [=](int64_t i, auto part) {
        const Vec a = part.load(x + i), b = part.load(x + half + i);
        const Vec c = part.load(cosine + i), s = part.load(sine + i) * direction;
        part.store(y + i, fma(-b, s, a * c));
        part.store(y + half + i, fma(a, s, b * c));
      });
    }
    for_columns(K - dims, [=](int64_t i, auto part) { part.store(y + dims + i, part.load(x + dims + i)); });
  }
}

}  // namespace supra::SUPRA_LEVEL
