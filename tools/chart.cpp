#include "tools/chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tensor/error.h"

namespace supra {
namespace {

constexpr Color kPaper = {255, 255, 255}, kInk = {40, 44, 52}, kFaint = {110, 116, 128},
                kGrid = {228, 231, 236};
// Dark enough on white, and told apart by people who see no red or green.
constexpr Color kColors[] = {{0, 98, 178},  {216, 91, 0},   {0, 138, 104}, {178, 60, 140},
                             {196, 152, 0}, {74, 168, 216}, {92, 72, 160}, {120, 84, 60}};
constexpr double kTextSize = 9, kTitleSize = 12;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();

  void include(double v) { low = std::min(low, v), high = std::max(high, v); }
  bool empty() const { return low > high; }
  // A constant gets some room, so that its line stands in the middle; other ranges get `share` at either end.
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

// The points of a series that can be drawn.
std::vector<Point> values(const Series& series, std::optional<double> y_max) {
  std::vector<Point> points;
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (!std::isfinite(series.x[i]) || !std::isfinite(series.y[i])) continue;
    points.push_back({series.x[i], y_max ? std::min(series.y[i], *y_max) : series.y[i]});
  }
  return points;
}

// Whether a line goes up and down so much that it hides its course.
bool noisy(const std::vector<Point>& points) {
  Range range;
  double way = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    range.include(points[i].y);
    if (i > 0) way += std::abs(points[i].y - points[i - 1].y);
  }
  return points.size() > 100 && way > 3 * (range.high - range.low);
}

// The mean over a window around each point, smaller towards the ends so that it stays centred.
std::vector<Point> running_mean(const std::vector<Point>& points) {
  std::vector<double> sums(points.size() + 1);
  for (size_t i = 0; i < points.size(); ++i) sums[i + 1] = sums[i] + points[i].y;
  const size_t half = points.size() / 60;
  std::vector<Point> mean = points;
  for (size_t i = 0; i < points.size(); ++i) {
    const size_t reach = std::min({half, i, points.size() - 1 - i});
    mean[i].y = (sums[i + reach + 1] - sums[i - reach]) / double(2 * reach + 1);
  }
  return mean;
}

void draw_axes(Canvas& canvas, const Frame& f, const std::string& label, bool with_x) {
  const std::vector<double> ys = nice_ticks(f.y.low, f.y.high, std::max(3, int((f.bottom - f.top) / 60)));
  const std::vector<double> xs = nice_ticks(f.x.low, f.x.high, int((f.right - f.left) / 120) + 1);
  const auto step = [](const std::vector<double>& ticks) {
    return ticks.size() > 1 ? ticks[1] - ticks[0] : 0;
  };
  for (double v : ys) {
    const double y = std::round(f.place(f.x.low, v).y);
    canvas.rectangle(f.left, y, f.right, y + 1, kGrid);
    canvas.text({f.left - 10, y + kTextSize / 2}, tick_label(v, step(ys)), kTextSize, kFaint, Align::right);
  }
  for (double v : xs) {
    const double x = std::round(f.place(v, f.y.low).x);
    canvas.rectangle(x, f.top, x + 1, f.bottom, kGrid);
    if (with_x) canvas.text({x, f.bottom + 20}, tick_label(v, step(xs)), kTextSize, kFaint, Align::center);
  }
  canvas.rectangle(f.left, f.bottom, f.right, f.bottom + 1, kFaint);
  canvas.rectangle(f.left - 1, f.top, f.left, f.bottom + 1, kFaint);
  canvas.vertical_text({26, (f.top + f.bottom) / 2}, label, kTextSize, kInk, Align::center);
}

void draw_series(Canvas& canvas, const Frame& f, const Series& series, const std::vector<Point>& points) {
  const Color color = kColors[series.color % std::size(kColors)];
  const auto placed = [&](std::vector<Point> points) {
    for (Point& p : points) p = f.place(p.x, p.y);
    return points;
  };
  // A noisy line is drawn pale, with its running mean on top.
  const bool pale = !series.marked && noisy(points);
  if (pale) canvas.polyline(placed(points), 1, color, 0.3);
  const std::vector<Point> line = placed(pale ? running_mean(points) : points);
  canvas.polyline(line, 2, color);
  if (series.marked || points.size() == 1)
    for (Point p : line) canvas.dot(p, points.size() > 60 ? 2.5 : 4, color);
}

void draw_level(Canvas& canvas, const Frame& f, const std::string& name, double value) {
  const double y = std::round(f.place(f.x.low, value).y);
  for (double x = f.left; x < f.right; x += 10)
    canvas.rectangle(x, y, std::min(x + 6, f.right), y + 1.5, kInk);
  const std::string text = name + format(" %.4g", value);
  const double width = Canvas::text_width(text, kTextSize);
  canvas.rectangle(f.left + 8, y - 18, f.left + 16 + width, y - 3, kPaper, 0.8);
  canvas.text({f.left + 12, y - 6}, text, kTextSize, kInk);
}

// In the upper right corner, where a curve that falls leaves room.
void draw_legend(Canvas& canvas, const Frame& f, const std::vector<Series>& series) {
  constexpr double kRow = 20, kSample = 26;
  double width = 0;
  for (const Series& s : series) width = std::max(width, Canvas::text_width(s.name, kTextSize));
  const double left = f.right - width - kSample - 30, top = f.top + 8;
  canvas.rectangle(left, top, f.right - 8, top + kRow * double(series.size()) + 8, kPaper, 0.85);
  for (size_t i = 0; i < series.size(); ++i) {
    const double y = top + 14 + kRow * double(i);
    const Color color = kColors[series[i].color % std::size(kColors)];
    const Point sample[] = {{left + 8, y}, {left + 8 + kSample, y}};
    canvas.polyline(sample, 2, color);
    if (series[i].marked) canvas.dot({left + 8 + kSample / 2, y}, 4, color);
    canvas.text({left + kSample + 16, y + kTextSize / 2}, series[i].name, kTextSize, kInk);
  }
}

void draw_panel(Canvas& canvas, Frame frame, const Panel& panel, bool with_x) {
  for (const Series& series : panel.series)
    for (Point p : values(series, panel.y_max)) frame.y.include(p.y);
  CHECK(!frame.y.empty(), "chart: %s has no point to draw", panel.label.c_str());
  for (const auto& [name, value] : panel.levels) frame.y.include(value);
  frame.y.widen(0.06);
  draw_axes(canvas, frame, panel.label, with_x);
  for (const auto& [name, value] : panel.levels) draw_level(canvas, frame, name, value);
  for (const Series& series : panel.series) draw_series(canvas, frame, series, values(series, panel.y_max));
  // A single line is what the axis says it is.
  if (panel.series.size() > 1 || panel.series[0].name != panel.label)
    draw_legend(canvas, frame, panel.series);
}

}  // namespace

Canvas draw(const Chart& chart, int width, int height) {
  CHECK(!chart.panels.empty(), "chart: nothing to draw");
  Canvas canvas(width, height, kPaper);
  Range x;
  for (const Panel& panel : chart.panels)
    for (const Series& series : panel.series)
      for (Point p : values(series, panel.y_max)) x.include(p.x);
  CHECK(!x.empty(), "chart: no point to draw");
  x.widen(0.01);

  const double left = 92, right = width - 24, top = chart.title.empty() ? 20 : 48, bottom = height - 56,
               gap = 24;
  const double panels = double(chart.panels.size());
  const double panel_height = (bottom - top - gap * (panels - 1)) / panels;
  CHECK(right - left >= 100 && panel_height >= 60, "chart: %d x %d pixels are too few for %zu panels", width,
        height, chart.panels.size());
  if (!chart.title.empty()) canvas.text({left, 30}, chart.title, kTitleSize, kInk);
  for (size_t i = 0; i < chart.panels.size(); ++i) {
    const double panel_top = top + (panel_height + gap) * double(i);
    draw_panel(canvas, {left, panel_top, right, panel_top + panel_height, x, {}}, chart.panels[i],
               i + 1 == chart.panels.size());
  }
  canvas.text({(left + right) / 2, height - 14.0}, chart.x_label, kTextSize, kInk, Align::center);
  return canvas;
}

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
  // What is a rounding error away from 0 is 0.
  return std::abs(value) < step * 1e-6 ? "0" : format("%.6g", value);
}

}  // namespace supra
