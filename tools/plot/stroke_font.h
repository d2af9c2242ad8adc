#pragma once
#include <vector>

#include "tools/plot/canvas.h"

// A stroke font made for this program: every letter is a few polylines on a grid four units wide. Capitals are
// six units high, small letters four, and descenders go two units below the base line.

namespace supra {

inline constexpr double kCapitalHeight = 6;
inline constexpr double kLetterGap = 1.9;  // between two letters, in units

struct Glyph {
  std::vector<std::vector<Point>> strokes;  // in units; y increases downwards from the top of the capitals
  double width = 0;
};

Glyph glyph(char c);

}  // namespace supra
