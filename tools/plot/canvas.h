#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/file.h"

// A picture to draw on: rectangles, anti-aliased lines and letters. Letters are strokes on a small grid
// (stroke_font.h), so they scale to any size and need no font file. Pixel (0, 0) is the top left corner.

namespace supra {

struct Color {
  uint8_t r, g, b;
};

struct Point {
  double x, y;
};

enum class Align { left, center, right };

class Canvas {
 public:
  Canvas(int width, int height, Color background);

  int width() const { return width_; }
  int height() const { return height_; }
  Color at(int x, int y) const;

  // Opacity is 0 to 1; everything outside of the picture is cut off.
  void rectangle(double left, double top, double right, double bottom, Color color, double opacity = 1);
  // A line through the points. Overlapping parts do not become darker. One point makes a dot.
  void polyline(std::span<const Point> points, double thickness, Color color, double opacity = 1);
  // The same with dashes: alternating lengths of line and gap; empty: a solid line.
  void dashed_line(std::span<const Point> points, std::span<const double> dashes, double thickness, Color color);
  void dot(Point center, double radius, Color color);
  // `size` is the height of a capital letter; `at` is on the base line. A letter that the font lacks becomes a
  // box.
  void text(Point at, std::string_view text, double size, Color color, Align align = Align::left);
  // The same, turned to read from bottom to top; `at` is on the base line, to the right of the letters.
  void vertical_text(Point at, std::string_view text, double size, Color color, Align align = Align::left);
  static double text_width(std::string_view text, double size);

  // Throws Error if the file cannot be written.
  void write_png(const Path& path) const;

 private:
  void blend(int x, int y, Color color, double opacity);
  void strokes(Point at, std::string_view text, double size, Color color, Align align, bool vertical);

  int width_, height_;
  std::vector<uint8_t> pixels_;  // rows of r, g, b
};

}  // namespace supra
