#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

void max_exp_sum(float* largest, double* total, const float* x, int64_t n) {
  Vec highest = broadcast(x[0]);
  for_columns(n, [&](int64_t i, auto part) { highest = max(highest, part.mask(part.load(x + i), highest)); });
  const float shift = *largest = max(highest);
  // a stretch is summed in float, the stretches in double: the error does not grow with the vocabulary
  constexpr int64_t kStretch = 1024;
  *total = 0;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t length = at_most(n - begin, kStretch);
    *total += column_sum(length, [&](int64_t i, auto part) { return exp(part.load(x + begin + i) - shift); });
  }
}

void exp_scaled(float* y, const float* x, float shift, float factor, int64_t n, bool add) {
  for_columns(n, [&](int64_t i, auto part) {
    const Vec power = exp(part.load(x + i) - shift);
    part.store(y + i, add ? fma(power, broadcast(factor), part.load(y + i)) : power * factor);
  });
}

void exp_weighted_gap(double* total, const float* t, const float* x, float shift, int64_t n) {
  *total = column_sum(n, [&](int64_t i, auto part) {
    const Vec teacher = part.load(t + i);
    return exp(teacher - shift) * (teacher - part.load(x + i));
  });
}

}  // namespace supra::SUPRA_LEVEL
