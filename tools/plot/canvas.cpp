#include "tools/plot/canvas.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"
#include "tools/plot/png.h"
#include "tools/plot/stroke_font.h"

namespace supra {
namespace {

double distance_to_segment(Point p, Point a, Point b) {
  const double dx = b.x - a.x, dy = b.y - a.y;
  const double length2 = dx * dx + dy * dy;
  const double t = length2 > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length2, 0.0, 1.0) : 0;
  return std::hypot(p.x - a.x - t * dx, p.y - a.y - t * dy);
}

}  // namespace

Canvas::Canvas(int width, int height, Color background) : width_(width), height_(height) {
  CHECK(width > 0 && height > 0 && width <= 20000 && height <= 20000,
        "a picture of %d x %d pixels: 1 to 20000 each", width, height);
  pixels_.resize(size_t(width) * size_t(height) * 3);
  rectangle(0, 0, width, height, background);
}

Color Canvas::at(int x, int y) const {
  const uint8_t* p = &pixels_.at((size_t(y) * size_t(width_) + size_t(x)) * 3);
  return {p[0], p[1], p[2]};
}

void Canvas::blend(int x, int y, Color color, double opacity) {
  uint8_t* p = &pixels_[(size_t(y) * size_t(width_) + size_t(x)) * 3];
  const uint8_t target[3] = {color.r, color.g, color.b};
  for (int c = 0; c < 3; ++c)
    p[c] = uint8_t(std::lround(p[c] + (target[c] - p[c]) * std::clamp(opacity, 0.0, 1.0)));
}

void Canvas::rectangle(double left, double top, double right, double bottom, Color color, double opacity) {
  const int x0 = std::max(0, int(std::lround(left))), x1 = std::min(width_, int(std::lround(right)));
  const int y0 = std::max(0, int(std::lround(top))), y1 = std::min(height_, int(std::lround(bottom)));
  for (int y = y0; y < y1; ++y)
    for (int x = x0; x < x1; ++x) blend(x, y, color, opacity);
}

void Canvas::polyline(std::span<const Point> points, double thickness, Color color, double opacity) {
  if (points.empty()) return;
  const double reach = thickness / 2 + 1;
  double left = width_, right = 0, top = height_, bottom = 0;
  for (Point p : points) {
    left = std::min(left, p.x), right = std::max(right, p.x);
    top = std::min(top, p.y), bottom = std::max(bottom, p.y);
  }
  const int x0 = int(std::clamp(left - reach, 0.0, double(width_)));
  const int x1 = int(std::clamp(right + reach + 1, 0.0, double(width_)));
  const int y0 = int(std::clamp(top - reach, 0.0, double(height_)));
  const int y1 = int(std::clamp(bottom + reach + 1, 0.0, double(height_)));
  if (x0 >= x1 || y0 >= y1) return;

  // The part of each pixel that the line covers: the maximum over its segments.
  const int stride = x1 - x0;
  std::vector<float> cover(size_t(stride) * size_t(y1 - y0));
  for (size_t i = 0; i < std::max<size_t>(1, points.size() - 1); ++i) {
    const Point a = points[i], b = points[std::min(i + 1, points.size() - 1)];
    const int sx0 = int(std::clamp(std::min(a.x, b.x) - reach, double(x0), double(x1)));
    const int sx1 = int(std::clamp(std::max(a.x, b.x) + reach + 1, double(x0), double(x1)));
    const int sy0 = int(std::clamp(std::min(a.y, b.y) - reach, double(y0), double(y1)));
    const int sy1 = int(std::clamp(std::max(a.y, b.y) + reach + 1, double(y0), double(y1)));
    for (int y = sy0; y < sy1; ++y) {
      for (int x = sx0; x < sx1; ++x) {
        const double near = thickness / 2 + 0.5 - distance_to_segment({x + 0.5, y + 0.5}, a, b);
        float& covered = cover[size_t(y - y0) * size_t(stride) + size_t(x - x0)];
        covered = std::max(covered, float(std::clamp(near, 0.0, 1.0)));
      }
    }
  }
  for (int y = y0; y < y1; ++y)
    for (int x = x0; x < x1; ++x)
      if (const float c = cover[size_t(y - y0) * size_t(stride) + size_t(x - x0)]; c > 0)
        blend(x, y, color, c * opacity);
}

void Canvas::dashed_line(std::span<const Point> points, std::span<const double> dashes, double thickness, Color color) {
  if (dashes.empty() || points.empty()) return polyline(points, thickness, color);
  size_t turn = 0;
  double left = dashes[0];
  std::vector<Point> dash = {points[0]};
  const auto end_dash = [&] {
    if (turn % 2 == 0) polyline(dash, thickness, color);
  };
  for (const Point to : points.subspan(1)) {
    Point at = dash.back();
    double way = std::hypot(to.x - at.x, to.y - at.y);
    for (; way > left; left = dashes[++turn % dashes.size()]) {
      at = {at.x + (to.x - at.x) * left / way, at.y + (to.y - at.y) * left / way};
      way -= left;
      dash.push_back(at);
      end_dash();
      dash = {at};
    }
    left -= way;
    dash.push_back(to);
  }
  end_dash();
}

void Canvas::dot(Point center, double radius, Color color) { polyline({&center, 1}, 2 * radius, color); }

double Canvas::text_width(std::string_view text, double size) {
  double units = 0;
  for (char c : text) units += glyph(c).width + kLetterGap;
  return text.empty() ? 0 : (units - kLetterGap) * size / kCapitalHeight;
}

void Canvas::strokes(Point at, std::string_view text, double size, Color color, Align align, bool vertical) {
  const double unit = size / kCapitalHeight;
  double along = align == Align::left ? 0 : -text_width(text, size) * (align == Align::center ? 0.5 : 1);
  for (char c : text) {
    const Glyph letter = glyph(c);
    for (const std::vector<Point>& stroke : letter.strokes) {
      std::vector<Point> points;
      for (Point p : stroke) {
        const double x = along + p.x * unit, y = (p.y - kCapitalHeight) * unit;
        points.push_back(vertical ? Point{at.x + y, at.y - x} : Point{at.x + x, at.y + y});
      }
      // A full stop must be visible beside the strokes.
      polyline(points, size * (points.size() == 1 ? 0.2 : 0.13), color);
    }
    along += (letter.width + kLetterGap) * unit;
  }
}

void Canvas::text(Point at, std::string_view text, double size, Color color, Align align) {
  strokes(at, text, size, color, align, false);
}

void Canvas::vertical_text(Point at, std::string_view text, double size, Color color, Align align) {
  strokes(at, text, size, color, align, true);
}

void Canvas::write_png(const Path& path) const {
  write_file_atomically(path, encode_png(width_, height_, pixels_));
}

}  // namespace supra
