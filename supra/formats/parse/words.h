#pragma once
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace supra {

// The words of a text with a space between them.
inline std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    words.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return words;
}

}  // namespace supra
