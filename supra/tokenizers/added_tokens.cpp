#include "supra/tokenizers/added_tokens.h"

#include <algorithm>

#include "supra/tokenizers/unicode.h"

namespace supra {

void AddedTokens::add(const AddedToken& token, std::string_view text) {
  if (!text.empty() && tokens_.try_emplace(text, &token).second) texts_.add(text);
}

static bool is_of(uint32_t categories, std::string_view text, size_t at) {
  return at < text.size() && is_in(categories, first_character(text.substr(at)).code_point);
}

void AddedTokens::cut(std::string_view text, bool with_special, const std::function<void(int32_t)>& token,
                      const std::function<void(std::string_view, size_t)>& between) const {
  constexpr uint32_t words = kWords | kJoiners;
  size_t done = 0;
  for (size_t at = 0, size; at < text.size(); at += std::max<size_t>(size, 1)) {
    size = texts_.match(text.substr(at));
    if (size == 0) continue;
    const AddedToken& found = *tokens_.at(text.substr(at, size));
    size_t begin = at, end = at + size;
    if (found.special && !with_special) continue;
    if (found.single_word && (is_of(words, text, end) || (begin > 0 && is_of(words, text, place_before(text, begin))))) continue;
    if (found.strips_left) begin = std::max(begin, done);
    while (found.strips_left && begin > done && is_of(kSpaces, text, place_before(text, begin))) begin = place_before(text, begin);
    while (found.strips_right && is_of(kSpaces, text, end)) end += first_character(text.substr(end)).size;
    // the token is white space that the one before includes
    if (begin >= end) continue;
    if (done < begin) between(text.substr(done, begin - done), done);
    token(found.id);
    done = end;
  }
  if (done < text.size()) between(text.substr(done), done);
}

}  // namespace supra
