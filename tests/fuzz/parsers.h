#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace supra {

// A parser of the project behind one function: bytes go in; what comes back is "" where they were taken, else
// the complaint. Anything but an Error escapes.
struct Parser {
  const char* name;
  std::string (*complaint)(std::string_view bytes);
  std::vector<std::string> seeds;  // small files that it takes, made by the project's own code
};

// All of them. One that reads several files gets them in one piece, a zero byte between.
const std::vector<Parser>& parsers();

}  // namespace supra
