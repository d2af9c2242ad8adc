#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {

static float largest_of(const float* x, int64_t n) {
  Vec largest = broadcast(x[0]);
  for_columns(n, [&](int64_t i, auto part) { largest = max(largest, part.mask(part.load(x + i), largest)); });
  return max(largest);
}

void max_exp_sum(float* largest, double* total, const float* x, int64_t n) {
  const float shift = *largest = largest_of(x, n);
  // a stretch is summed in float, the stretches in double: the error does not grow with the vocabulary
  constexpr int64_t kStretch = 1024;
  *total = 0;
  for (int64_t begin = 0; begin < n; begin += kStretch) {
    const int64_t length = n - begin < kStretch ? n - begin : kStretch;
    *total += column_sum(length, [&](int64_t i, auto part) { return exp(part.load(x + begin + i) - shift); });
  }
}

void exp_scaled(float* y, const float* x, float shift, float factor, int64_t n) {
  for_columns(n, [&](int64_t i, auto part) { part.store(y + i, exp(part.load(x + i) - shift) * factor); });
}

void exp_weighted_gap(double* total, const float* t, const float* x, float shift, int64_t n) {
  *total = column_sum(n, [&](int64_t i, auto part) {
    const Vec teacher = part.load(t + i);
    return exp(teacher - shift) * (teacher - part.load(x + i));
  });
}

void add_exp_scaled(float* y, const float* t, float shift, float factor, int64_t n) {
  for_columns(n, [&](int64_t i, auto part) {
    part.store(y + i, fma(exp(part.load(t + i) - shift), broadcast(factor), part.load(y + i)));
  });
}

}  // namespace supra::SUPRA_LEVEL
