#pragma once
#include <string_view>
#include <unordered_set>
#include <vector>

namespace supra {

// Finds which of its texts another text begins with. Its texts must outlive it.
class PrefixMatcher {
 public:
  void add(std::string_view text);  // not empty

  // The size of the longest of its texts that `text` begins with; 0 if there is none.
  size_t match(std::string_view text) const;

 private:
  std::unordered_set<std::string_view> texts_;
  std::vector<size_t> sizes_[256];  // by first byte: the sizes of the texts, the largest first
};

}  // namespace supra
