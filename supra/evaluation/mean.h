#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace supra {

// A running mean and its standard error.
struct Mean {
  int64_t n = 0;
  double sum = 0, squares = 0;

  void add(double x) { n++, sum += x, squares += x * x; }
  double mean() const { return sum / static_cast<double>(n); }
  double error() const {
    const double count = static_cast<double>(n), m = mean();
    return std::sqrt(std::max(0.0, squares / count - m * m) / count);
  }
};

}  // namespace supra
