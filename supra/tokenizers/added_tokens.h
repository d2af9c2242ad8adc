#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "supra/tokenizers/prefix_matcher.h"

namespace supra {

// A token beside the vocabulary that is cut out of a text before anything else. Special tokens are cut out only if the
// caller asks for it; `normalized` ones after the text was normalised.
struct AddedToken {
  int32_t id = -1;
  std::string text;
  bool special = false, normalized = false;
  bool strips_left = false, strips_right = false;  // takes the white space beside it
  bool single_word = false;                        // not within a word
};

// Finds tokens in a text: the leftmost one, and the longest of several at one place.
class AddedTokens {
 public:
  // `text`: the token's text, normalised if it asks for that. It is viewed and must outlive this object. The first of equal texts is used.
  void add(const AddedToken& token, std::string_view text);

  // Hands out the tokens in a text and what lies between them, which is never empty, with its place.
  void cut(std::string_view text, bool with_special, const std::function<void(int32_t)>& token,
           const std::function<void(std::string_view, size_t)>& between) const;

 private:
  PrefixMatcher texts_;
  std::unordered_map<std::string_view, const AddedToken*> tokens_;
};

}  // namespace supra
