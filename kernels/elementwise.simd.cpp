#include "kernels/activation_vec.h"
#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

// Whether streams() holds for n elements, without those of an incomplete last vector.
static bool large(const float* y, int64_t n) { return streams(y, 1, n / kLanes * kLanes); }

void add(float* y, const float* a, const float* b, int64_t n) {
  for_columns(n, large(y, n), [=](int64_t i, auto part) { part.put(y + i, part.load(a + i) + part.load(b + i)); });
}

void mul(float* y, const float* a, const float* b, int64_t n) {
  for_columns(n, large(y, n), [=](int64_t i, auto part) { part.put(y + i, part.load(a + i) * part.load(b + i)); });
}

void scale(float* y, const float* x, float factor, int64_t n) {
  for_columns(n, large(y, n), [=](int64_t i, auto part) { part.put(y + i, part.load(x + i) * factor); });
}

void activation_fwd(float* y, const float* x, int64_t n, Activation f) {
  with_activation(f, [=](auto f) {
    for_columns(n, large(y, n), [=](int64_t i, auto part) { part.put(y + i, f.value(part.load(x + i))); });
  });
}

void activation_bwd(float* dx, const float* dy, const float* x, int64_t n, Activation f) {
  with_activation(f, [=](auto f) {
    for_columns(n, large(dx, n), [=](int64_t i, auto part) {
      part.put(dx + i, part.load(dy + i) * f.slope(part.load(x + i)));
    });
  });
}

}  // namespace supra::SUPRA_LEVEL
