#pragma once
#include <string>
#include <vector>

// The numbers on an axis.

namespace supra {

// Round numbers that cut [low, high] into about `count` steps: 1, 2 or 5 times a power of ten apart, all
// within.
std::vector<double> nice_ticks(double low, double high, int count);

// "250k", "1.5M", "0.0003": the label of a tick of an axis whose ticks are `step` apart.
std::string tick_label(double value, double step);

}  // namespace supra
