#include "supra/formats/config/rope_scaling.h"

#include <algorithm>
#include <cmath>

namespace supra {

// Calls f(i, period in tokens) for every pair of dimensions.
template <class F>
static void each_pair(const Rope& rope, int64_t dims, F f) {
  for (int64_t i = 0; i < dims / 2; i++) {
    f(i, 2 * M_PI * std::pow(rope.base, 2.0 * static_cast<double>(i) / static_cast<double>(dims)));
  }
}

void scale_llama3(Rope& rope, int64_t dims, int64_t trained, double factor, double low, double high) {
  rope.divisors.clear();
  each_pair(rope, dims, [&](int64_t, double period) {
    const double turns = static_cast<double>(trained) / period;
    const double kept = std::clamp((turns - low) / (high - low), 0.0, 1.0);
    rope.divisors.push_back(1 / (kept + (1 - kept) / factor));
  });
}

void scale_yarn(Rope& rope, int64_t dims, int64_t trained, double factor, double beta_fast, double beta_slow) {
  // the index of the pair that turns `times` times in the trained context
  const auto pair_turning = [&](double times) {
    return static_cast<double>(dims) * std::log(static_cast<double>(trained) / (times * 2 * M_PI)) / (2 * std::log(rope.base));
  };
  const double first = std::max(std::floor(pair_turning(beta_fast)), 0.0);
  const double last = std::min(std::ceil(pair_turning(beta_slow)), static_cast<double>(dims - 1));
  rope.divisors.clear();
  each_pair(rope, dims, [&](int64_t i, double) {
    const double divided = std::clamp((static_cast<double>(i) - first) / std::max(last - first, 0.001), 0.0, 1.0);
    rope.divisors.push_back(1 / (divided / factor + 1 - divided));
  });
  rope.magnitude = factor > 1 ? 0.1 * std::log(factor) + 1 : 1;
}

}  // namespace supra
