#include "tools/plot/series.h"

namespace supra {
namespace {

// Dark enough on white, and distinguishable without seeing red or green.
constexpr Color kColors[] = {{0, 98, 178},  {216, 91, 0},   {0, 138, 104}, {178, 60, 140},
                             {196, 152, 0}, {74, 168, 216}, {92, 72, 160}, {120, 84, 60}};
// Lengths of dashes and gaps in pixels, which distinguish lines in grey.
const std::vector<double> kDashes[] = {{}, {12, 5}, {2.5, 4}, {12, 4, 2.5, 4}, {22, 6}, {6, 3}, {2.5, 8}, {18, 4, 2.5, 4, 2.5, 4}};
constexpr double kLine = 2.2;

// Whether a line is so noisy that its course is hard to see.
bool noisy(const std::vector<Point>& points) {
  Range range;
  double way = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    range.include(points[i].y);
    if (i > 0) way += std::abs(points[i].y - points[i - 1].y);
  }
  return points.size() > 100 && way > 3 * (range.high - range.low);
}

// The mean over a window centred on each point. Near the start, where losses fall steeply, the window shrinks. Near the end the
// last whole window is used, because a mean of few values would follow their noise.
std::vector<Point> running_mean(const std::vector<Point>& points) {
  std::vector<double> sums(points.size() + 1);
  for (size_t i = 0; i < points.size(); ++i) sums[i + 1] = sums[i] + points[i].y;
  const size_t half = points.size() / 60;
  std::vector<Point> mean = points;
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t center = std::min(i, points.size() - 1 - half), reach = std::min(half, center);
    mean[i].y = (sums[center + reach + 1] - sums[center - reach]) / double(2 * reach + 1);
  }
  return mean;
}

}  // namespace

std::vector<Point> values(const Series& series) {
  std::vector<Point> points;
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (!std::isfinite(series.x[i]) || !std::isfinite(series.y[i])) continue;
    points.push_back({series.x[i], series.y[i]});
  }
  return points;
}

Color color_of(const Series& series) { return kColors[series.color % std::size(kColors)]; }

Lines within(const Frame& f, const std::vector<Point>& points) {
  Lines parts(1);
  for (size_t i = 0; i < points.size(); ++i) {
    const Point p = points[i];
    if (i > 0 && (p.y > f.y.high) != (points[i - 1].y > f.y.high)) {
      const Point q = points[i - 1];
      parts.back().push_back(f.place(q.x + (p.x - q.x) * (f.y.high - q.y) / (p.y - q.y), f.y.high));
      if (p.y > f.y.high) parts.emplace_back();
    }
    if (p.y <= f.y.high) parts.back().push_back(f.place(p.x, p.y));
  }
  return parts;
}

void draw_ring(Canvas& canvas, Point center, Color color) {
  canvas.dot(center, 5.5, color);
  canvas.dot(center, 3, kPaper);
}

void draw_sample(Canvas& canvas, const std::vector<Point>& line, const Series& series) {
  static const std::vector<double> kSolid;
  canvas.dashed_line(line, series.marked ? kSolid : kDashes[series.color % std::size(kDashes)], kLine, color_of(series));
}

void draw_series(Canvas& canvas, const Frame& f, const Series& series) {
  const std::vector<Point> points = values(series);
  // A noisy line is pale, with its running mean on top.
  const bool pale = !series.marked && noisy(points);
  if (pale)
    for (const auto& part : within(f, points)) canvas.polyline(part, 1, color_of(series), 0.3);
  const std::vector<Point> line = pale ? running_mean(points) : points;
  for (const auto& part : within(f, line)) draw_sample(canvas, part, series);
  for (Point p : line) {
    if ((series.marked || points.size() == 1) && p.y <= f.y.high)
      canvas.dot(f.place(p.x, p.y), points.size() > 60 ? 2.5 : 4, color_of(series));
  }
  for (const auto& [name, x] : series.ends) {
    const auto next = std::find_if(line.begin(), line.end(), [end = x](Point p) { return p.x >= end; });
    if (next != line.end() && next->y <= f.y.high) draw_ring(canvas, f.place(next->x, next->y), color_of(series));
  }
}

}  // namespace supra
