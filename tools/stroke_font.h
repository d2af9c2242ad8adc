#pragma once
#include <vector>

#include "tools/canvas.h"

// A font of strokes, drawn for this program: every letter is a few polylines on a grid four units wide, with
// capitals six units high, small letters four, and tails that go down two more.

namespace supra {

inline constexpr double kCapitalHeight = 6;
inline constexpr double kLetterGap = 1.9;  // between two letters, in units

struct Glyph {
  std::vector<std::vector<Point>> strokes;  // in units; y goes down from the top of the capitals
  double width = 0;
};

Glyph glyph(char c);

}  // namespace supra
