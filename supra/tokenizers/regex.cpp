#include "supra/tokenizers/regex.h"

#include <algorithm>

#include "supra/tokenizers/regex_parser.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

using Op = Regex::Op;

Regex::Regex(std::string_view expression, const std::string& where) : where_(where) {
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

// Runs the program from one place of a text.
struct Regex::Matcher {
  const Regex& regex;
  const std::string_view text;
  Stack& stack;
  size_t at;
  int32_t i = 0;  // the next instruction
  size_t steps = 0;

  const Set& set_of(const Instruction& step) const { return regex.sets_[static_cast<size_t>(step.argument)]; }

  // The size of the character at `at` if it is in the set, else 0.
  size_t size_in(const Set& set) const {
    if (at >= text.size()) return 0;
    const auto byte = static_cast<uint8_t>(text[at]);
    if (byte < 128) return set.ascii[byte / 64] >> (byte % 64) & 1;
    const Character c = first_character(text.substr(at));
    return set.has(c.code_point) ? c.size : 0;
  }

  bool is_word(size_t place) const {
    if (place >= text.size()) return false;
    const uint32_t c = first_character(text.substr(place)).code_point;
    return is_in(kWords, c) || std::find(std::begin(kLatinWords), std::end(kLatinWords), c) != std::end(kLatinWords);
  }

  // Removes the choices of a group that ends. Returns its beginning.
  Choice close_group() {
    while (stack.back().instruction >= 0) stack.pop_back();
    const Choice begin = stack.back();
    stack.pop_back();
    return begin;
  }

  bool repeat(const Instruction& step) {
    const Set& set = set_of(step);
    uint32_t count = 0;
    size_t lowest = at;
    for (size_t size; count < step.most && (size = size_in(set)) > 0; at += size) {
      if (++count <= step.least) lowest = at + size;
    }
    steps += count / 16;  // a character costs less here than an instruction
    if (count >= step.least && !step.flag && at > lowest) stack.push_back({i, at, lowest});
    return count >= step.least;
  }

  // One instruction other than `match`. False: the text does not match here.
  bool run(const Instruction& step) {
    switch (step.op) {
      case Op::set: {
        const size_t size = size_in(set_of(step));
        at += size;
        return size > 0;
      }
      case Op::repeat: return repeat(step);
      case Op::split:
        stack.push_back({step.flag ? i + 1 : i + step.argument, at, at});
        if (step.flag) i += step.argument - 1;
        return true;
      case Op::jump:
        i += step.argument - 1;
        return true;
      case Op::begin:
        // if the group must not match, the program continues after it when the group fails
        if (step.argument > 0) stack.push_back({i + step.argument, at, at});
        stack.push_back({-1, at, at});
        return true;
      case Op::end_atomic:
        close_group();
        return true;
      case Op::end_ahead:
        at = close_group().place;
        return true;
      case Op::end_not_ahead:
        close_group();
        stack.pop_back();
        return false;
      case Op::edge: return ((at > 0 && is_word(place_before(text, at))) != is_word(at)) != step.flag;
      case Op::line_begin: return at == 0 || text[at - 1] == '\n';
      case Op::line_end: return at == text.size() || text[at] == '\n';
      case Op::text_end: return at == text.size();
      case Op::match: break;
    }
    return true;
  }

  // Goes back to the last choice. False: there is none left.
  bool backtrack() {
    for (bool found = false; !found;) {
      if (stack.empty()) return false;
      Choice& choice = stack.back();
      i = choice.instruction;
      at = choice.place;
      found = i >= 0;
      if (found && regex.code_[static_cast<size_t>(i)].op == Op::repeat && choice.place > choice.lowest) {
        at = choice.place = std::max(place_before(text, at), choice.lowest);
        i++;
        if (at > choice.lowest) return true;
      }
      stack.pop_back();
    }
    return true;
  }
};

size_t Regex::match_at(std::string_view text, size_t at, Stack& stack) const {
  constexpr size_t kMostChoices = size_t{1} << 24;
  const size_t most_steps = 1000000 + 16 * text.size();
  stack.clear();
  Matcher matcher = {*this, text, stack, at};
  while (true) {
    CHECK(++matcher.steps < most_steps && stack.size() < kMostChoices,
          "%s: a regular expression takes too long on a text of %zu bytes (it backtracks: cut the text into shorter lines, or take "
          "another tokenizer)",
          where_.c_str(), text.size());
    const Instruction& step = code_[static_cast<size_t>(matcher.i)];
    if (step.op == Op::match) return matcher.at;
    if (matcher.run(step))
      matcher.i++;
    else if (!matcher.backtrack())
      return SIZE_MAX;
  }
}

}  // namespace supra
