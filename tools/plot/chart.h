#pragma once
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/plot/canvas.h"

// Line charts: panels one above the other that share the horizontal axis.

namespace supra {

struct Series {
  std::string name;
  std::vector<double> x, y;  // of the same length; a point that is not finite is not drawn
  size_t color = 0;          // series of the same run have the same colour
  bool marked = false;       // dots on the line: a second quantity of the same run, or few points
  std::vector<std::pair<std::string, double>> ends = {};  // ends of stages, by name: a ring on the line at this x
};

struct Panel {
  std::string label;  // of the vertical axis
  std::vector<Series> series;
  std::vector<std::pair<std::string, double>> levels;  // dashed horizontal lines, with their names
  std::optional<double> y_max;  // values above are cut off
  bool falls = false;           // otherwise early values far above the rest are cut off
};

struct Chart {
  std::string title, x_label;
  std::vector<Panel> panels;
  bool x_doubles = false;  // x is a power of two: 10 is shown as 1024
};

// Draws the chart. Throws Error if a panel has no finite point.
Canvas draw(const Chart& chart, int width, int height);

}  // namespace supra
