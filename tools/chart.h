#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/canvas.h"

// Line charts: panels one above the other that share the horizontal axis.

namespace supra {

struct Series {
  std::string name;
  std::vector<double> x, y;  // as many of each; a point that is not finite leaves no mark
  size_t color = 0;          // runs of one colour belong together
  bool marked = false;       // dots on the line: a second quantity of the same run, or few points
};

struct Panel {
  std::string label;  // of the vertical axis
  std::vector<Series> series;
  std::vector<std::pair<std::string, double>> levels;  // dashed horizontal lines, with their names
  std::optional<double> y_max;                         // values above are drawn here, at the upper edge
};

struct Chart {
  std::string title, x_label;
  std::vector<Panel> panels;
};

// Draws the chart. Throws Error when a panel has no finite point.
Canvas draw(const Chart& chart, int width, int height);

// Round numbers that cut [low, high] into about `count` steps: 1, 2 or 5 times a power of ten apart, all
// within.
std::vector<double> nice_ticks(double low, double high, int count);

// "250k", "1.5M", "0.0003": the label of a tick of an axis whose ticks are `step` apart.
std::string tick_label(double value, double step);

}  // namespace supra
