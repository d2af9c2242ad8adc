#include "supra/tokenizers/prefix_matcher.h"

#include <algorithm>
#include <cstdint>

namespace supra {

void PrefixMatcher::add(std::string_view text) {
  texts_.insert(text);
  std::vector<size_t>& sizes = sizes_[static_cast<uint8_t>(text[0])];
  const auto place = std::lower_bound(sizes.begin(), sizes.end(), text.size(), std::greater<>());
  if (place == sizes.end() || *place != text.size()) sizes.insert(place, text.size());
}

size_t PrefixMatcher::match(std::string_view text) const {
  if (text.empty()) return 0;
  for (const size_t size : sizes_[static_cast<uint8_t>(text[0])]) {
    if (size <= text.size() && texts_.count(text.substr(0, size))) return size;
  }
  return 0;
}

}  // namespace supra
