#include "tools/plot/plot.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "tests/support.h"
#include "tools/plot/canvas.h"
#include "tools/plot/chart.h"
#include "tools/plot/png.h"
#include "tools/plot/stroke_font.h"
#include "tools/plot/ticks.h"
#include "tools/training_log.h"

#if defined(SUPRA_STB)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#include <stb/stb_image.h>
#endif

#define SKIP_WITHOUT_PNG() \
  if (!why_no_png().empty()) GTEST_SKIP() << why_no_png()

namespace supra {
namespace {

constexpr Color kWhite = {255, 255, 255}, kBlack = {0, 0, 0};

// Pixels that are not white.
int inked(const Canvas& canvas) {
  int count = 0;
  for (int y = 0; y < canvas.height(); ++y)
    for (int x = 0; x < canvas.width(); ++x) count += canvas.at(x, y).g < 250;
  return count;
}

TEST(Canvas, RectanglesCoverWholePixels) {
  Canvas canvas(10, 10, kWhite);
  canvas.rectangle(2, 3, 5, 4, kBlack);
  EXPECT_EQ(inked(canvas), 3);
  EXPECT_EQ(canvas.at(2, 3).r, 0);
  EXPECT_EQ(canvas.at(5, 3).r, 255);
  canvas.rectangle(-50, -50, 500, 500, kBlack, 0.5);
  EXPECT_EQ(canvas.at(9, 9).r, 128);
}

TEST(Canvas, ALineCoversItsArea) {
  // Darkness summed over the pixels is length times thickness, and two round ends; at any angle.
  for (double angle : {0.0, 0.3, 0.8, 1.4}) {
    Canvas canvas(200, 200, kWhite);
    const Point ends[] = {{20, 20}, {20 + 120 * std::cos(angle), 20 + 120 * std::sin(angle)}};
    canvas.polyline(ends, 3, kBlack);
    double area = 0;
    for (int y = 0; y < 200; ++y)
      for (int x = 0; x < 200; ++x) area += (255 - canvas.at(x, y).r) / 255.0;
    EXPECT_NEAR(area, 120 * 3 + M_PI * 1.5 * 1.5, 6) << angle;
  }
}

TEST(Canvas, CrossingPartsOfALineDoNotDarken) {
  Canvas canvas(40, 40, kWhite);
  const Point path[] = {{5, 20}, {35, 20}, {20, 5}, {20, 35}, {5, 20}};
  canvas.polyline(path, 4, kBlack, 0.5);
  EXPECT_EQ(canvas.at(20, 20).r, 128);
}

TEST(Canvas, WhatLiesOutsideIsCutOff) {
  Canvas canvas(20, 20, kWhite);
  const Point far[] = {{-1e12, 10}, {1e12, 10}};
  canvas.polyline(far, 2, kBlack);
  EXPECT_EQ(inked(canvas), 40);
  canvas.dot({-100, -100}, 5, kBlack);
  canvas.text({500, 500}, "gone", 10, kBlack);
  EXPECT_EQ(inked(canvas), 40);
  canvas.polyline({}, 2, kBlack);
  EXPECT_THROW(Canvas(0, 5, kWhite), Error);
}

TEST(Canvas, EveryPrintableLetterLeavesInkWithinItsWidth) {
  for (char c = '!'; c <= '~'; ++c) {
    Canvas canvas(40, 40, kWhite);
    canvas.text({10, 25}, std::string(1, c), 12, kBlack);
    EXPECT_GT(inked(canvas), 2) << c;
    const int right = int(std::ceil(10 + Canvas::text_width(std::string(1, c), 12) + 2.5));
    int outside = 0;
    for (int y = 0; y < 40; ++y)
      for (int x = 0; x < 40; ++x) outside += (x < 8 || x > right) && canvas.at(x, y).g < 255;
    EXPECT_EQ(outside, 0) << c;
  }
  EXPECT_TRUE(glyph(' ').strokes.empty());
  EXPECT_GT(Canvas::text_width("ab", 10), Canvas::text_width("a", 10));
  EXPECT_EQ(Canvas::text_width("", 10), 0);
}

TEST(Canvas, NoTwoLettersLookTheSame) {
  std::map<std::vector<std::pair<double, double>>, char> seen;
  for (char c = '!'; c <= '~'; ++c) {
    std::vector<std::pair<double, double>> points;
    for (const auto& stroke : glyph(c).strokes)
      for (Point p : stroke) points.emplace_back(p.x, p.y);
    const bool box = points.size() == 5 && points[0] == points[4];
    // I and l, O and 0 are twins in many fonts.
    if (box || c == 'I' || c == 'l' || c == 'O' || c == '0') continue;
    EXPECT_TRUE(seen.emplace(points, c).second) << c << " and " << seen[points];
  }
}

TEST(Chart, TicksAreRoundAndWithin) {
  EXPECT_EQ(nice_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(nice_ticks(-1, 1, 4), (std::vector<double>{-1, -0.5, 0, 0.5, 1}));
  for (double scale : {1e-9, 1e-3, 1.0, 7.7, 1e12}) {
    for (int count = 2; count < 12; ++count) {
      const std::vector<double> ticks = nice_ticks(1.3 * scale, 9.1 * scale, count);
      EXPECT_GE(int(ticks.size()), count / 2) << scale << " " << count;
      EXPECT_LE(int(ticks.size()), 2 * count) << scale << " " << count;
      for (double t : ticks) {
        EXPECT_GE(t, 1.3 * scale * 0.999);
        EXPECT_LE(t, 9.1 * scale * 1.001);
      }
    }
  }
}

TEST(Chart, TickLabels) {
  EXPECT_EQ(tick_label(0, 0.5), "0");
  EXPECT_EQ(tick_label(1e-17, 0.1), "0");
  EXPECT_EQ(tick_label(0.3, 0.1), "0.3");
  EXPECT_EQ(tick_label(500, 500), "500");
  EXPECT_EQ(tick_label(250000, 50000), "250k");
  EXPECT_EQ(tick_label(1500000, 500000), "1.5M");
  EXPECT_EQ(tick_label(-2000, 1000), "-2k");
  EXPECT_EQ(tick_label(0.0003, 0.0001), "0.0003");
}

TEST(Chart, DrawsAFallingLineFromTheUpperLeftToTheLowerRight) {
  Panel panel{"loss", {{"loss", {0, 1, 2, 3}, {4, 3, 2, 1}, 0, false}}, {}, {}};
  const Canvas canvas = draw({"", "step", {panel}}, 400, 300);
  // Where the first colour is found.
  int left_row = -1, right_row = -1;
  for (int y = 0; y < 300; ++y) {
    const auto is_blue = [&](int x) { return canvas.at(x, y).b > 150 && canvas.at(x, y).r < 60; };
    if (left_row < 0 && is_blue(120)) left_row = y;
    if (is_blue(350)) right_row = y;
  }
  EXPECT_GT(left_row, 0);
  EXPECT_GT(right_row, left_row + 100);
}

TEST(Chart, HardValues) {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  const auto chart = [](std::vector<double> x, std::vector<double> y) {
    return Chart{"", "x", {{"y", {{"y", std::move(x), std::move(y), 0, false}}, {}, {}}}};
  };
  for (const auto& ys :
       std::vector<std::vector<double>>{{1, nan, 2}, {5, 5, 5}, {0, 0, 0}, {inf, 3, nan}, {1e300, -1e300, 0}})
    EXPECT_GT(inked(draw(chart({1, 2, 3}, ys), 400, 300)), 500);
  EXPECT_GT(inked(draw(chart({7}, {7}), 400, 300)), 500);
  EXPECT_THROW(draw(chart({1, 2}, {nan, inf}), 400, 300), Error);
  EXPECT_THROW(draw(chart({}, {}), 400, 300), Error);
  EXPECT_THROW(draw(Chart{}, 400, 300), Error);
  EXPECT_THROW(draw(chart({1, 2}, {1, 2}), 50, 20), Error);
}

TEST(Png, HoldsEveryPixel) {
#if defined(SUPRA_STB)
  std::vector<uint8_t> pixels;
  Philox random(4);
  while (pixels.size() < 90'000) pixels.push_back(pixels.size() < 30'000 ? 7 : uint8_t(random.below(256)));
  const std::string file = encode_png(100, 300, pixels);
  int width = 0, height = 0, channels = 0;
  stbi_uc* read = stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(file.data()), int(file.size()), &width, &height, &channels, 0);
  ASSERT_TRUE(read);
  EXPECT_EQ(width, 100);
  EXPECT_EQ(height, 300);
  ASSERT_EQ(channels, 3);
  EXPECT_EQ(std::vector<uint8_t>(read, read + pixels.size()), pixels);
  stbi_image_free(read);
  EXPECT_THROW(encode_png(100, 100, pixels), Error);
#else
  GTEST_SKIP() << why_no_png();
#endif
}

// Whether a pixel of the rectangle has a colour of its own, as lines have and letters, axes and grids have not.
bool has_line(const Canvas& canvas, int left, int top, int right, int bottom) {
  for (int y = top; y < bottom; ++y)
    for (int x = left; x < right; ++x) {
      const Color c = canvas.at(x, y);
      if (std::max({c.r, c.g, c.b}) - std::min({c.r, c.g, c.b}) > 60) return true;
    }
  return false;
}

TEST(Chart, EarlyValuesFarAboveTheRestLeaveThePicture) {
  Series series{"y", {}, {}, 0, false, {}};
  for (int i = 0; i < 100; ++i) series.x.push_back(i), series.y.push_back(i < 5 ? 100 : 2 - i * 0.01);
  Panel panel{"y", {series}, {}, {}, true};
  // What remains falls from the upper half to the lower.
  EXPECT_TRUE(has_line(draw({"", "x", {panel}}, 400, 300), 100, 0, 200, 120));
  panel.falls = false;
  EXPECT_FALSE(has_line(draw({"", "x", {panel}}, 400, 300), 200, 0, 400, 200));
}

// The last value of a noisy run lies far above the rest: its running mean, the only dark line, stays where it was.
TEST(Chart, ASmoothedLineEndsWhereItRan) {
  Series series{"y", {}, {}, 0, false, {}};
  for (int i = 0; i < 400; ++i) series.x.push_back(i), series.y.push_back(i == 399 ? 3 : 1 + 0.5 * (i % 2));
  const Canvas canvas = draw({"", "x", {{"y", {series}, {}, {}, false}}}, 1000, 600);
  const auto is_dark_blue = [&](int x, int y) { return canvas.at(x, y).b > 150 && canvas.at(x, y).r < 60; };
  int top = 600, bottom = 0;
  for (int y = 0; y < 600; ++y)
    for (int x = 800; x < 1000; ++x)
      if (is_dark_blue(x, y)) top = std::min(top, y), bottom = std::max(bottom, y);
  EXPECT_GT(bottom, top);
  // 5 % of the panel's height; the last value alone is 80 % above
  EXPECT_LT(bottom - top, 60);
}

TEST(Chart, TheLegendCoversNoLine) {
  // Lines through the upper right corner, through all corners, through everything; the last ones leave no room at all.
  std::vector<double> zigzag;
  for (int i = 0; i < 40; ++i) zigzag.push_back(i % 2);
  const std::pair<std::vector<double>, size_t> cases[] = {{{0, 9, 9, 9}, 1}, {{9, 5, 0, 5, 9}, 2}, {zigzag, 1}, {zigzag, 8}};
  for (const auto& [y, count] : cases) {
    Panel panel{"y", {}, {}, {}, false};
    for (size_t i = 0; i < count; ++i) {
      panel.series.push_back({"a long name of a run", {}, y, 0, false, {}});
      for (size_t x = 0; x < y.size(); ++x) panel.series.back().x.push_back(double(x));
    }
    const Canvas canvas = draw({"", "x", {panel}}, 800, 300);
    // The line is seen in every column of the panel; between a sample and its name there is nothing else.
    int first = 800, last = 0, seen = 0;
    for (int x = 0; x < 800; ++x) {
      if (!has_line(canvas, x, 0, x + 1, 300)) continue;
      first = std::min(first, x), last = x, seen++;
    }
    EXPECT_GT(last - first, 400);
    EXPECT_LT(last - first + 1 - seen, 25) << count << " of " << y.size() << " points";
  }
}

TEST(Chart, DashesTellLinesApartWithoutColour) {
  Canvas canvas(200, 20, kWhite);
  const Point line[] = {{10, 10}, {60, 10}, {190, 10}};
  const double dashes[] = {20, 10};
  canvas.dashed_line(line, dashes, 2, kBlack);
  std::string row;
  for (int x = 15; x < 190; x += 10) row += canvas.at(x, 10).r < 128 ? '#' : ' ';
  EXPECT_EQ(row, "## ## ## ## ## ## ");
}

class PlotRuns : public testing::Test {
 protected:
  Path log(const std::string& name, const std::string& text) {
    const Path path = dir_.path() / name;
    write_file_atomically(path, text);
    return path;
  }
  // The error of plotting one log, or "".
  std::string error(const std::string& text, const PlotOptions& options = {}) {
    try {
      plot_runs({log("run.csv", text)}, png_, options);
    } catch (const Error& e) {
      const std::string what = e.what();
      const size_t at = what.find("run.csv");
      return at == std::string::npos ? what : what.substr(at);
    }
    return "";
  }

  TempDir dir_;
  Path png_ = dir_.path() / "curve.png";
  const std::string head_ = "step,tokens,seconds,loss,grad_norm,lr,tokens_per_second,valid_nll\n";
};

// Logs are read and their mistakes named; only the file at the end is missing.
TEST_F(PlotRuns, WithoutStbThePackageIsNamed) {
  if (why_no_png().empty()) GTEST_SKIP() << "this build writes pictures (make STB=no builds one that does not)";
  EXPECT_NE(error("tokens,loss\n1,2\n2,1\n").find("apt-get install libstb-dev"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(png_));
}

TEST_F(PlotRuns, WritesAPng) {
  SKIP_WITHOUT_PNG();
  std::string text = head_;
  for (int i = 1; i <= 300; ++i)
    text += format("%d,%d,%d,%f,1,1e-3,100,%s\n", i, i * 512, i, 1 + 3.0 / i + (i % 2) * 0.1,
                   i % 50 ? "" : "1.5");
  PlotOptions options;
  options.y = {"loss,valid_nll", "grad_norm"};
  options.teacher = 1.1;
  options.y_max = 3;
  plot_runs({log("a.csv", text), log("b.csv", text)}, png_, options);
  const std::string file = read_file(png_);
  ASSERT_GT(file.size(), 1000u);
  EXPECT_EQ(file.substr(0, 8), "\x89PNG\r\n\x1a\n");
  // IHDR: 1000 x 600.
  EXPECT_EQ(file.substr(16, 8), std::string("\0\0\x03\xe8\0\0\x02\x58", 8));
}

TEST_F(PlotRuns, HalfALastRowAndForeignLogsAreFine) {
  SKIP_WITHOUT_PNG();
  EXPECT_EQ(error(head_ + "1,512,1,2.5,1,1,1,\n2,1024,2,2.4,1,1,1,\n3,15"), "");
  EXPECT_EQ(error("tokens,loss\r\n1,2\r\n\r\n2,1\r\n"), "");
}

TEST_F(PlotRuns, AStageThatEndsIsMarked) {
  SKIP_WITHOUT_PNG();
  const auto picture = [&](const char* second) {
    std::string text = "tokens,loss,stage\n";
    for (int i = 0; i < 20; ++i) text += format("%d,%d,%s\n", i * 100, 20 - i, i < 8 ? "transfer" : second);
    plot_runs({log("a.csv", text)}, png_, {});
    return read_file(png_);
  };
  EXPECT_NE(picture("distill"), picture("transfer"));
  EXPECT_EQ(picture("distill"), picture("text"));
}

// A log from before there were stages, of a run that goes on behind its first step.
TEST_F(PlotRuns, OldLogsGoOn) {
  const Path path = log("run.csv", "step,tokens,seconds,loss,grad_norm,lr,tokens_per_second,valid_nll\n1,64,1,5,1,1e-3,64,\n2,128,2,4,1,1e-3,64,3\n");
  TrainStep step;
  step.step = 2;
  step.tokens = 128;
  step.loss = 4.5;
  step.stage = "text";
  TrainingLog log(path);
  log.start(1);
  log.write(step);
  EXPECT_EQ(read_file(path),
            "step,tokens,seconds,loss,grad_norm,lr,tokens_per_second,valid_nll,stage\n1,64,1,5,1,1e-3,64,,\n"
            "2,128,0.000,4.5,0,0.000000e+00,0.0,,text\n");
  if (why_no_png().empty()) plot_runs({path}, png_, {});
}

TEST_F(PlotRuns, ErrorsNameTheLine) {
  EXPECT_EQ(error(""), "run.csv: no line of column names (a log of supra uptrain --log is expected)");
  EXPECT_EQ(error(head_), "run.csv: no rows yet");
  EXPECT_EQ(error(head_ + "1,2\n"), "run.csv:2: 2 fields, the first line names 8 columns");
  EXPECT_EQ(error(head_ + "1,2,3,4,5,6,7,8\n1,2,3,x,5,6,7,8\n"), "run.csv:3: 'x' is not a number");
  EXPECT_EQ(error(head_ + "1,2,3,nan,5,6,7,\n"), "run.csv: no value of loss,valid_nll to draw");
  PlotOptions options;
  options.y = {"los"};
  EXPECT_EQ(error("tokens,loss\n1,2\n", options),
            "run.csv: no column los (did you mean loss?); it has tokens, loss");
  options = {};
  options.x = "steps";
  EXPECT_EQ(error("tokens,loss\n1,2\n", options), "run.csv: no column steps; it has tokens, loss");
  EXPECT_THROW(plot_runs({dir_.path() / "absent.csv"}, png_, {}), Error);
  EXPECT_FALSE(std::filesystem::exists(png_));
}

}  // namespace
}  // namespace supra
