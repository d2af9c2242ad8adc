#include "tools/plot/chart.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"
#include "tools/plot/series.h"
#include "tools/plot/ticks.h"

namespace supra {
namespace {

constexpr double kTextSize = 10.5, kTitleSize = 13;

// If x doubles, there is a grid line every so many doublings.
std::vector<double> doublings(double low, double high, int count) {
  const double step = std::max(1.0, std::ceil((high - low) / count));
  std::vector<double> ticks;
  for (double v = std::ceil(low - 1e-9); v <= high + 1e-9; v += step) ticks.push_back(v);
  return ticks;
}

// What the horizontal axis shows.
struct XAxis {
  bool doubles, labels;
};

void draw_axes(Canvas& canvas, const Frame& f, const std::string& label, XAxis axis) {
  const std::vector<double> ys = nice_ticks(f.y.low, f.y.high, std::max(3, int((f.bottom - f.top) / 60)));
  const int most = int((f.right - f.left) / 120) + 1;
  const std::vector<double> xs = axis.doubles ? doublings(f.x.low, f.x.high, most) : nice_ticks(f.x.low, f.x.high, most);
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
    const std::string text = axis.doubles ? format("%.0f", std::exp2(v)) : tick_label(v, step(xs));
    if (axis.labels) canvas.text({x, f.bottom + 22}, text, kTextSize, kFaint, Align::center);
  }
  canvas.rectangle(f.left, f.bottom, f.right, f.bottom + 1, kFaint);
  canvas.rectangle(f.left - 1, f.top, f.left, f.bottom + 1, kFaint);
  const double fit = std::min(1.0, (f.bottom - f.top) / Canvas::text_width(label, kTextSize));
  canvas.vertical_text({26, (f.top + f.bottom) / 2}, label, kTextSize * fit, kInk, Align::center);
}

// Whether no line crosses the rectangle.
bool is_free(const Lines& lines, double left, double top, double right, double bottom) {
  for (const auto& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      const Point a = line[i], b = line[std::min(i + 1, line.size() - 1)];
      const int steps = 1 + int(std::hypot(b.x - a.x, b.y - a.y) / 4);
      for (int s = 0; s <= steps; ++s) {
        const double x = a.x + (b.x - a.x) * s / steps, y = a.y + (b.y - a.y) * s / steps;
        if (x > left - 4 && x < right + 4 && y > top - 4 && y < bottom + 4) return false;
      }
    }
  }
  return true;
}

// A dashed line, with its name at a place without other lines, or at its left end.
void draw_level(Canvas& canvas, const Frame& f, const std::string& name, double value, const Lines& lines) {
  const double y = std::round(f.place(f.x.low, value).y);
  for (double x = f.left; x < f.right; x += 10)
    canvas.rectangle(x, y, std::min(x + 6, f.right), y + 1.5, kInk);
  const std::string text = name + format(" %.4g", value);
  const double width = Canvas::text_width(text, kTextSize);
  Point at = {f.left + 12, y - 7};
  for (Point other : {at, {f.right - 12 - width, y - 7}, {at.x, y + 9 + kTextSize}, {f.right - 12 - width, y + 9 + kTextSize}}) {
    if (other.y > f.bottom - 2 || !is_free(lines, other.x, other.y - kTextSize, other.x + width, other.y)) continue;
    at = other;
    break;
  }
  canvas.rectangle(at.x - 4, at.y - kTextSize - 3, at.x + width + 4, at.y + 3, kPaper, 0.8);
  canvas.text(at, text, kTextSize, kInk);
}

// A row for each series, and one for the meaning of a ring.
struct Legend {
  const std::vector<Series>& series;
  std::vector<std::string> rings;
  double width = 0, height = 0;

  static constexpr double kRow = 20, kSample = 44;

  explicit Legend(const std::vector<Series>& all) : series(all) {
    for (const Series& s : all) {
      width = std::max(width, Canvas::text_width(s.name, kTextSize));
      for (const auto& [name, x] : s.ends) {
        const std::string text = "end of " + name;
        if (std::find(rings.begin(), rings.end(), text) == rings.end()) rings.push_back(text);
        width = std::max(width, Canvas::text_width(text, kTextSize));
      }
    }
    width += kSample + 24;
    height = kRow * double(series.size() + rings.size()) + 8;
  }

  void draw(Canvas& canvas, Point corner) const {
    canvas.rectangle(corner.x, corner.y, corner.x + width, corner.y + height, kPaper, 0.85);
    double y = corner.y + 14;
    const auto row = [&](const std::string& text) {
      canvas.text({corner.x + kSample + 16, y + kTextSize / 2}, text, kTextSize, kInk);
      y += kRow;
    };
    for (const Series& s : series) {
      draw_sample(canvas, {{corner.x + 8, y}, {corner.x + 8 + kSample, y}}, s);
      if (s.marked) canvas.dot({corner.x + 8 + kSample / 2, y}, 4, color_of(s));
      row(s.name);
    }
    for (const std::string& text : rings) {
      draw_ring(canvas, {corner.x + 8 + kSample / 2, y}, kFaint);
      row(text);
    }
  }
};

// All lines of a panel.
Lines lines_of(const Frame& f, const Panel& panel) {
  Lines lines;
  for (const Series& series : panel.series)
    for (auto& part : within(f, values(series))) lines.push_back(std::move(part));
  return lines;
}

// The layout of a panel: its place, scales and legend.
struct Layout {
  const Panel& panel;
  Legend legend;
  Frame frame;
  std::optional<Point> corner;  // of the legend; none: it is not needed, or is beside the panel

  // A single line is named by the axis.
  bool has_legend() const { return panel.series.size() > 1 || panel.series[0].name != panel.label || !legend.rings.empty(); }
};

// The largest value shown. The first steps of a run, which fall from far above, may leave the panel.
double highest(const Panel& panel, const Range& x) {
  Range all, later;
  for (const Series& series : panel.series) {
    for (Point p : values(series)) {
      all.include(p.y);
      if (p.x > x.low + 0.15 * (x.high - x.low)) later.include(p.y);
    }
  }
  CHECK(!all.empty(), "chart: %s has no point to draw", panel.label.c_str());
  if (panel.y_max) return std::clamp(*panel.y_max, all.low, all.high);
  return panel.falls && !later.empty() && all.high - later.high > 0.3 * (later.high - all.low) ? later.high : all.high;
}

// A corner of the panel where the legend covers no line. The vertical axis may grow for it, by at most the part `most` of its
// span.
void make_room(Layout& layout, double most) {
  Frame& f = layout.frame;
  const Legend& legend = layout.legend;
  const double high = f.y.high, span = high - f.y.low, gap = 10;
  const double xs[] = {f.right - legend.width - gap, f.left + gap}, ys[] = {f.top + gap, f.bottom - legend.height - gap};
  for (double more = 0; more <= most; more += 0.1) {
    f.y.high = high + span * more;
    Lines lines = lines_of(f, layout.panel);
    for (const auto& [name, value] : layout.panel.levels) lines.push_back({f.place(f.x.low, value), f.place(f.x.high, value)});
    for (double y : ys) {
      for (double x : xs) {
        if (!is_free(lines, x, y, x + legend.width, y + legend.height)) continue;
        layout.corner = Point{x, y};
        return;
      }
    }
  }
  f.y.high = high;
}

Layout lay_out(const Panel& panel, Frame frame, double most) {
  frame.y.include(highest(panel, frame.x));
  for (const Series& series : panel.series)
    for (Point p : values(series)) frame.y.include(std::min(p.y, frame.y.high));
  for (const auto& [name, value] : panel.levels) frame.y.include(value);
  frame.y.widen(0.06);
  Layout layout = {panel, Legend(panel.series), frame, {}};
  if (layout.has_legend()) make_room(layout, most);
  return layout;
}

void draw_panel(Canvas& canvas, const Layout& layout, XAxis axis) {
  const Frame& frame = layout.frame;
  draw_axes(canvas, frame, layout.panel.label, axis);
  const Lines lines = lines_of(frame, layout.panel);
  for (const auto& [name, value] : layout.panel.levels) draw_level(canvas, frame, name, value, lines);
  for (const Series& series : layout.panel.series) draw_series(canvas, frame, series);
  if (layout.has_legend()) layout.legend.draw(canvas, layout.corner.value_or(Point{frame.right + 8, frame.top - 4}));
}

}  // namespace

Canvas draw(const Chart& chart, int width, int height) {
  CHECK(!chart.panels.empty(), "chart: nothing to draw");
  Range x;
  for (const Panel& panel : chart.panels)
    for (const Series& series : panel.series)
      for (Point p : values(series)) x.include(p.x);
  CHECK(!x.empty(), "chart: no point to draw");
  // If a run begins near 0, the axis begins at 0.
  if (!chart.x_doubles && x.low > 0 && x.low < 0.1 * x.high) x.low = 0;
  x.widen(0.01);

  const double left = 96, top = chart.title.empty() ? 20 : 50, bottom = height - 60, gap = 24;
  const double panel_height = (bottom - top - gap * double(chart.panels.size() - 1)) / double(chart.panels.size());
  double right = width - 28;
  const auto lay_out_all = [&](double most) {
    CHECK(right - left >= 100 && panel_height >= 60, "chart: %d x %d pixels are too few for %zu panels", width, height,
          chart.panels.size());
    std::vector<Layout> layouts;
    for (const Panel& panel : chart.panels) {
      const double panel_top = top + (panel_height + gap) * double(layouts.size());
      layouts.push_back(lay_out(panel, {left, panel_top, right, panel_top + panel_height, x, {}}, most));
    }
    return layouts;
  };
  std::vector<Layout> layouts = lay_out_all(0.35);
  // If one legend has no room in its panel, all are beside their panels, provided that the panels keep most of the width.
  const auto is_homeless = [](const Layout& l) { return l.has_legend() && !l.corner; };
  if (std::any_of(layouts.begin(), layouts.end(), is_homeless)) {
    double widest = 0;
    for (const Layout& l : layouts) widest = std::max(widest, l.legend.width);
    const bool beside = widest < 0.4 * (right - left);
    if (beside) right -= widest;
    layouts = lay_out_all(beside ? 0 : 2);
    for (Layout& l : layouts) {
      if (beside) l.corner.reset();
      else if (!l.corner) l.corner = Point{right - l.legend.width, l.frame.top};
    }
  }

  Canvas canvas(width, height, kPaper);
  if (!chart.title.empty()) canvas.text({left, 32}, chart.title, kTitleSize, kInk);
  for (const Layout& l : layouts) draw_panel(canvas, l, {chart.x_doubles, &l == &layouts.back()});
  canvas.text({(left + right) / 2, height - 14.0}, chart.x_label, kTextSize, kInk, Align::center);
  return canvas;
}

}  // namespace supra
