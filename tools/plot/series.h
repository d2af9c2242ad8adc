#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "tools/plot/chart.h"

// How a line of a chart is drawn: colours, dashes, positions of its points. For chart.cpp.

namespace supra {

inline constexpr Color kPaper = {255, 255, 255}, kInk = {40, 44, 52}, kFaint = {110, 116, 128}, kGrid = {228, 231, 236};

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void include(double v) { low = std::min(low, v), high = std::max(high, v); }
  bool empty() const { return low > high; }
  // Adds space: around a constant, so that its line is in the middle; to other ranges `share` at either end.
  void widen(double share) {
    const double room = high > low ? (high - low) * share : std::max(std::abs(high) * 0.1, 1e-9);
    low -= room, high += room;
  }
};

// The rectangle of a panel and its two scales.
struct Frame {
  double left, top, right, bottom;
  Range x, y;

  Point place(double vx, double vy) const {
    return {left + (vx - x.low) / (x.high - x.low) * (right - left),
            bottom - (vy - y.low) / (y.high - y.low) * (bottom - top)};
  }
};

using Lines = std::vector<std::vector<Point>>;

// The points of a series that can be drawn, in data units.
std::vector<Point> values(const Series& series);

// The parts of a line below y.high, in pixels: it may leave the panel at its upper edge and come back.
Lines within(const Frame& f, const std::vector<Point>& points);

Color color_of(const Series& series);

void draw_series(Canvas& canvas, const Frame& f, const Series& series);

// A sample of the series' line for the legend; and the mark for the end of a stage.
void draw_sample(Canvas& canvas, const std::vector<Point>& line, const Series& series);
void draw_ring(Canvas& canvas, Point center, Color color);

}  // namespace supra
