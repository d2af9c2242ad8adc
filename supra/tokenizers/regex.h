#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace supra {

// Regular expressions as tokenizers write them (Oniguruma's syntax): alternatives, groups, greedy, lazy and possessive repeats,
// looking ahead, classes with \p{..}, \s \w \d, (?i:..), ^ $ \b. Backtracking over a program, without recursion. Syntax that is
// not supported (references, lookbehind, nested classes) is refused by name. A match may take a million steps plus 16 for each
// byte of the text, then it is an Error. The limit is for each match attempt, not for a text as a whole.
class Regex {
 public:
  // Throws Error naming `where` if the expression is invalid or not supported.
  Regex(std::string_view expression, const std::string& where);
  static Regex of_literal(std::string_view text);

  // Calls f(part, matches) for each match in a text that is not empty, and for the parts between the matches.
  template <class F>
  void each_part(std::string_view text, F f) const {
    size_t previous = 0;
    Stack stack;
    for (size_t at = 0, last = SIZE_MAX; at <= text.size();) {
      Match match = {at, at};
      if (!find(text, match, stack)) break;
      // an empty match directly after another match does not count
      if (match.end == match.begin && match.end == last) {
        at += at < text.size() ? character_size(text, at) : 1;
        continue;
      }
      if (match.begin > previous) f(text.substr(previous, match.begin - previous), false);
      f(text.substr(match.begin, match.end - match.begin), true);
      previous = at = last = match.end;
    }
    if (previous < text.size()) f(text.substr(previous), false);
  }

  // Superscripts and fractions, which Oniguruma counts as characters of words, except for \w in a class.
  static constexpr uint32_t kLatinWords[] = {0xb2, 0xb3, 0xb9, 0xbc, 0xbd, 0xbe};

  struct Set {
    uint64_t ascii[2] = {};  // a bit for each character below 128, once the set is finished
    uint32_t categories = 0;
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
    bool negated = false;
    bool has(uint32_t code_point) const;
  };
  enum class Op : uint8_t { set, repeat, split, jump, begin, end_atomic, end_ahead, end_not_ahead, edge, line_begin, line_end, text_end, match };
  struct Instruction {
    Op op;
    bool flag = false;      // repeat: possessive; split: tries the far branch first; edge: must not be one
    int32_t argument = 0;   // the index of a set, or the distance of a jump
    uint32_t least = 0, most = 0;
  };

 private:
  struct Match {
    size_t begin, end;
  };
  // Another way to continue: at `place`, or, for a repeat, at any place from there down to `lowest`.
  struct Choice {
    int32_t instruction;  // -1: the beginning of a group that is not re-entered
    size_t place, lowest;
  };
  using Stack = std::vector<Choice>;

  Regex() = default;
  static size_t character_size(std::string_view text, size_t at);
  // The first match at or after match.begin.
  bool find(std::string_view text, Match& match, Stack& stack) const;
  // The end of the match that begins at `at`; SIZE_MAX if there is none.
  struct Matcher;
  size_t match_at(std::string_view text, size_t at, Stack& stack) const;

  std::string where_;  // for errors
  std::vector<Set> sets_;
  std::vector<Instruction> code_;
  std::string literal_;  // instead of a program
};

}  // namespace supra
