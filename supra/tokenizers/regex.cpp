#include "supra/tokenizers/regex.h"

#include <algorithm>

#include "supra/tokenizers/regex_parser.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

using Op = Regex::Op;

Regex::Regex(std::string_view expression, const std::string& where) {
  RegexParser parser(expression, where);
  parser.parse();
  code_ = std::move(parser.code);
  sets_ = std::move(parser.sets);
}

Regex Regex::of_literal(std::string_view text) {
  Regex regex;
  regex.literal_ = text;
  return regex;
}

bool Regex::Set::has(uint32_t c) const {
  if (c < 128) return ascii[c / 64] >> (c % 64) & 1;
  if (is_in(categories, c)) return !negated;
  for (const auto& [low, high] : ranges) {
    if (c >= low && c <= high) return !negated;
  }
  return negated;
}

size_t Regex::character_size(std::string_view text, size_t at) { return first_character(text.substr(at)).size; }

bool Regex::find(std::string_view text, Match& match, Stack& stack) const {
  if (code_.empty()) {
    match.begin = literal_.empty() ? text.npos : text.find(literal_, match.begin);
    match.end = match.begin + literal_.size();
    return match.begin != text.npos;
  }
  for (;; match.begin += character_size(text, match.begin)) {
    match.end = match_at(text, match.begin, stack);
    if (match.end != SIZE_MAX) return true;
    if (match.begin >= text.size()) return false;
  }
}

size_t Regex::match_at(std::string_view text, size_t at, Stack& stack) const {
  // the size of the character at a place that is in the set; 0 where it is not
  const auto in_set = [&](const Set& set, size_t place) -> size_t {
    if (place >= text.size()) return 0;
    const auto byte = static_cast<uint8_t>(text[place]);
    if (byte < 128) return set.ascii[byte / 64] >> (byte % 64) & 1;
    const Character c = first_character(text.substr(place));
    return set.has(c.code_point) ? c.size : 0;
  };
  const auto is_word = [&](size_t place) {
    if (place >= text.size()) return false;
    const uint32_t c = first_character(text.substr(place)).code_point;
    return is_in(kWords, c) || std::find(std::begin(kLatinWords), std::end(kLatinWords), c) != std::end(kLatinWords);
  };
  // removes the choices of a group that ends, and its beginning
  const auto close_group = [&] {
    while (stack.back().instruction >= 0) stack.pop_back();
    const Choice begin = stack.back();
    stack.pop_back();
    return begin;
  };
  stack.clear();
  constexpr size_t kMostChoices = size_t{1} << 24;
  const size_t most_steps = 1000000 + 16 * text.size();
  size_t steps = 0;
  int32_t i = 0;
  for (;;) {
    CHECK(++steps < most_steps && stack.size() < kMostChoices, "a regular expression of the tokenizer takes too long on a text of %zu bytes (it backtracks: cut the text into shorter lines, or take another tokenizer)", text.size());
    const Instruction& step = code_[static_cast<size_t>(i)];
    bool goes_on = true;
    switch (step.op) {
      case Op::set: {
        const size_t size = in_set(sets_[static_cast<size_t>(step.argument)], at);
        goes_on = size > 0;
        at += size;
        break;
      }
      case Op::repeat: {
        const Set& set = sets_[static_cast<size_t>(step.argument)];
        uint32_t count = 0;
        size_t lowest = at;
        for (size_t size; count < step.most && (size = in_set(set, at)) > 0; at += size) {
          if (++count <= step.least) lowest = at + size;
        }
        goes_on = count >= step.least;
        steps += count / 16;  // a step is cheaper here
        if (goes_on && !step.flag && at > lowest) stack.push_back({i, at, lowest});
        break;
      }
      case Op::split:
        stack.push_back({step.flag ? i + 1 : i + step.argument, at, at});
        if (step.flag) i += step.argument - 1;
        break;
      case Op::jump:
        i += step.argument - 1;
        break;
      case Op::begin:
        // where the group fails, and that is what is wanted, the text goes on behind it
        if (step.argument > 0) stack.push_back({i + step.argument, at, at});
        stack.push_back({-1, at, at});
        break;
      case Op::end_atomic:
        close_group();
        break;
      case Op::end_ahead:
        at = close_group().place;
        break;
      case Op::end_not_ahead:
        close_group();
        stack.pop_back();
        goes_on = false;
        break;
      case Op::edge:
        goes_on = ((at > 0 && is_word(place_before(text, at))) != is_word(at)) != step.flag;
        break;
      case Op::line_begin:
        goes_on = at == 0 || text[at - 1] == '\n';
        break;
      case Op::line_end:
        goes_on = at == text.size() || text[at] == '\n';
        break;
      case Op::text_end:
        goes_on = at == text.size();
        break;
      case Op::match:
        return at;
    }
    i++;
    while (!goes_on) {
      if (stack.empty()) return SIZE_MAX;
      Choice& choice = stack.back();
      i = choice.instruction;
      at = choice.place;
      goes_on = i >= 0;
      if (goes_on && code_[static_cast<size_t>(i)].op == Op::repeat && choice.place > choice.lowest) {
        at = choice.place = std::max(place_before(text, at), choice.lowest);
        i++;
        if (at > choice.lowest) break;
      }
      stack.pop_back();
    }
  }
}

}  // namespace supra
