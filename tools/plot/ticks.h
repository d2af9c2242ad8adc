#pragma once
#include <string>
#include <vector>

// The numbers on an axis.

namespace supra {

// Round numbers within [low, high] that divide it into about `count` steps of 1, 2 or 5 times a power of
// ten.
std::vector<double> nice_ticks(double low, double high, int count);

// "250k", "1.5M", "0.0003": the label of a tick on an axis with ticks `step` apart.
std::string tick_label(double value, double step);

}  // namespace supra
