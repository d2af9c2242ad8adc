#pragma once
#include "kernels/vec.h"

// Loops over the columns of a row, for .simd.cpp files. The body is written once, as a generic lambda f(i,
// part). `part` loads and stores the columns from i on: a whole vector or, at the end of the row, the remaining
// columns.

namespace supra::SUPRA_LEVEL {
namespace {

struct Whole {
  static Vec load(const float* p) { return supra::SUPRA_LEVEL::load(p); }
  static void store(float* p, Vec v) { supra::SUPRA_LEVEL::store(p, v); }
  // store() of data that is not read again soon; see streams()
  static void put(float* p, Vec v) { store(p, v); }
  // `other` in the lanes beyond the last column
  static Vec mask(Vec v, Vec = Vec{}) { return v; }
};

struct Streamed : Whole {
  static void put(float* p, Vec v) { stream(p, v); }
};

struct Rest {
  int64_t n;
  Vec load(const float* p) const { return load_first(p, n); }
  void store(float* p, Vec v) const { store_first(p, v, n); }
  void put(float* p, Vec v) const { store(p, v); }
  Vec mask(Vec v, Vec other = Vec{}) const {
    VecInt lane = {};
    for (int32_t i = 0; i < kLanes; i++) lane[i] = i;
    return select(lane < static_cast<int32_t>(n), v, other);
  }
};

// Whether an output of N rows is so large that it leaves the caches before it is read. It is then written with streaming
// stores, which avoid reading cache lines that are overwritten completely.
inline bool streams(const float* output, int64_t N, int64_t C) {
  constexpr int64_t kLarge = 1 << 20;
  return N * C >= kLarge && C % kLanes == 0 && reinterpret_cast<uintptr_t>(output) % sizeof(Vec) == 0;
}

template <class F>
inline void for_columns(int64_t n, bool streamed, F f) {
  int64_t i = 0;
  if (streamed) {
    for (; i + kLanes <= n; i += kLanes) f(i, Streamed());
  } else {
    for (; i + kLanes <= n; i += kLanes) f(i, Whole());
  }
  if (i < n) f(i, Rest{n - i});
}
template <class F>
inline void for_columns(int64_t n, F f) {
  for_columns(n, false, f);
}

// The sum of f(i, part) over the columns, in four independent chains, so that additions need not wait for each
// other.
template <class F>
inline float column_sum(int64_t n, F f) {
  Vec a = {}, b = {}, c = {}, d = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a += f(i, Whole());
    b += f(i + kLanes, Whole());
    c += f(i + 2 * kLanes, Whole());
    d += f(i + 3 * kLanes, Whole());
  }
  for_columns(n - i, [&](int64_t j, auto part) { a += part.mask(f(i + j, part)); });
  return sum((a + b) + (c + d));
}

struct Moments {
  float mean, rstd;  // rstd = 1 / sqrt(variance + eps)
};

// Two passes: the variance is a sum of squared distances from the mean, without cancellation.
inline Moments moments(const float* x, int64_t n, float eps) {
  const float mean = column_sum(n, [&](int64_t i, auto part) { return part.load(x + i); }) / n;
  const float squares = column_sum(n, [&](int64_t i, auto part) {
    const Vec d = part.load(x + i) - mean;
    return d * d;
  });
  return {mean, 1 / __builtin_sqrtf(squares / n + eps)};
}

// y = (x - mean) rstd
inline void normalise(float* y, const float* x, int64_t n, Moments m, bool streamed) {
  for_columns(n, streamed, [&](int64_t i, auto part) { part.put(y + i, (part.load(x + i) - m.mean) * m.rstd); });
}

// dx = rstd (dy - mean(dy) - y mean(dy y)), where y is the result of normalise().
inline void normalise_bwd(float* dx, const float* dy, const float* y, float rstd, int64_t n, bool streamed) {
  const float shift = column_sum(n, [&](int64_t i, auto part) { return part.load(dy + i); }) / n;
  const float pull = column_sum(n, [&](int64_t i, auto part) { return part.load(dy + i) * part.load(y + i); }) / n;
  for_columns(n, streamed, [&](int64_t i, auto part) {
    part.put(dx + i, (part.load(dy + i) - shift - part.load(y + i) * pull) * rstd);
  });
}

}  // namespace
}  // namespace supra::SUPRA_LEVEL
