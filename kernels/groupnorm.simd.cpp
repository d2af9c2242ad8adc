#include "kernels/columns.h"
#include "kernels/simd.h"

namespace supra::SUPRA_LEVEL {
namespace {

// Groups that divide a vector are normalised side by side: a few exchanges of lanes instead of a sum through memory.
inline bool packs(int64_t D) { return D <= kLanes && (D & (D - 1)) == 0; }

// Every lane gets the mean of its group of D neighbours.
inline Vec group_mean(Vec v, int64_t D) {
  if (D > 1) v += swap_lanes<1>(v);
  if (D > 2) v += swap_lanes<2>(v);
  if constexpr (kLanes > 4) {
    if (D > 4) v += swap_lanes<4>(v);
  }
  if constexpr (kLanes > 8) {
    if (D > 8) v += swap_lanes<8>(v);
  }
  return v * (1.0f / static_cast<float>(D));
}

// Each group's value on all of its lanes, from and to an array of one value a group.
inline Vec spread(const float* values, int64_t lanes, int64_t D) {
  float lane[kLanes] = {};
  for (int64_t i = 0; i < lanes; i++) lane[i] = values[i / D];
  return load(lane);
}
inline void gather(float* values, Vec v, int64_t lanes, int64_t D) {
  float lane[kLanes];
  store(lane, v);
  for (int64_t i = 0; i < lanes; i += D) values[i / D] = lane[i];
}

inline int64_t lanes_of(Whole) { return kLanes; }
inline int64_t lanes_of(Rest part) { return part.n; }

}  // namespace

void groupnorm_fwd(float* y, float* rstd, const float* x, int64_t N, int64_t D, float eps) {
  if (packs(D)) {
    for_columns(N * D, streams(y, 1, N * D / kLanes * kLanes), [&](int64_t i, auto part) {
      const Vec v = part.load(x + i), d = v - group_mean(v, D);
      const Vec r = 1.0f / sqrt(group_mean(d * d, D) + eps);
      gather(rstd + i / D, r, lanes_of(part), D);
      part.put(y + i, d * r);
    });
    return;
  }
  const bool streamed = streams(y, N, D);
  for (int64_t group = 0; group < N; group++, y += D, x += D) {
    const Moments m = moments(x, D, eps);
    rstd[group] = m.rstd;
    normalise(y, x, D, m, streamed);
  }
}

void groupnorm_bwd(float* dx, const float* dy, const float* y, const float* rstd, int64_t N, int64_t D) {
  if (packs(D)) {
    for_columns(N * D, streams(dx, 1, N * D / kLanes * kLanes), [&](int64_t i, auto part) {
      const Vec g = part.load(dy + i), n = part.load(y + i);
      const Vec r = spread(rstd + i / D, lanes_of(part), D);
      part.put(dx + i, (g - group_mean(g, D) - n * group_mean(g * n, D)) * r);
    });
    return;
  }
  const bool streamed = streams(dx, N, D);
  for (int64_t group = 0; group < N; group++, dx += D, dy += D, y += D) normalise_bwd(dx, dy, y, rstd[group], D, streamed);
}

}  // namespace supra::SUPRA_LEVEL
