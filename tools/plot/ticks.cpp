#include "tools/plot/ticks.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace supra {

std::vector<double> nice_ticks(double low, double high, int count) {
  const double rough = (high - low) / std::max(1, count);
  const double power = std::pow(10, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (double nice : {1.0, 2.0, 5.0}) {
    if (nice * power < rough * 0.7) continue;
    step = nice * power;
    break;
  }
  std::vector<double> ticks;
  for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i)
    ticks.push_back(i * step);
  return ticks;
}

std::string tick_label(double value, double step) {
  const double size = std::max(std::abs(value), step);
  for (const auto& [scale, suffix] : {std::pair{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}})
    if (size >= scale && value != 0) return format("%.6g%s", value / scale, suffix);
  // Values within a rounding error of 0 become 0.
  return std::abs(value) < step * 1e-6 ? "0" : format("%.6g", value);
}

}  // namespace supra
