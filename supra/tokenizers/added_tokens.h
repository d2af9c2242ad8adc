#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "supra/tokenizers/prefix_matcher.h"

namespace supra {

// An added token: it is cut out of a text before anything else, or if it is `normalized`, after the text was normalised.
// Special tokens are cut out only if the caller asks for it.
struct AddedToken {
  int32_t id = -1;
  std::string text;
  bool special = false, normalized = false;
  bool strips_left = false, strips_right = false;  // includes the white space on that side
  bool single_word = false;                        // not within a word
};

// Finds tokens in a text: the leftmost, and of several at one place the longest.
class AddedTokens {
 public:
  // `text`: the token's text, normalised if the token is. It must outlive this object. The first of equal texts counts.
  void add(const AddedToken& token, std::string_view text);

  // Calls `token` for each token in a text, and `between` for each non-empty part between tokens, with its place.
  void cut(std::string_view text, bool with_special, const std::function<void(int32_t)>& token,
           const std::function<void(std::string_view, size_t)>& between) const;

 private:
  PrefixMatcher texts_;
  std::unordered_map<std::string_view, const AddedToken*> tokens_;
};

}  // namespace supra
