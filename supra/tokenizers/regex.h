#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace supra {

// Regular expressions as tokenizers write them (Oniguruma's syntax): alternatives, groups, greedy, lazy and possessive
// repeats, looking ahead, classes with \p{..}, \s \w \d, (?i:..), ^ $ \b. Backtracking over a program, without recursion.
// Syntax that is not supported (references, lookbehind, nested classes) is refused by name.
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
      // an empty match right behind another one does not count
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

  // Oniguruma counts these among the characters of words, but for \w in a class: superscripts and fractions.
  static constexpr uint32_t kLatinWords[] = {0xb2, 0xb3, 0xb9, 0xbc, 0xbd, 0xbe};

  struct Set {
    uint64_t ascii[2] = {};  // of the finished set
    uint32_t categories = 0;
    std::vector<std::pair<uint32_t, uint32_t>> ranges;
    bool negated = false;
    bool has(uint32_t code_point) const;
  };
  enum class Op : uint8_t { set, repeat, split, jump, begin, end_atomic, end_ahead, end_not_ahead, edge, line_begin, line_end, text_end, match };
  struct Instruction {
    Op op;
    bool flag = false;      // repeat: gives nothing back; split: the far way first; edge: there is none
    int32_t argument = 0;   // a set, or how far to go
    uint32_t least = 0, most = 0;
  };

 private:
  struct Match {
    size_t begin, end;
  };
  // Where to go on: at `place`, or, for a repeat, at any place from there down to `lowest`.
  struct Choice {
    int32_t instruction;  // -1: what is behind belongs to a group that gives nothing back
    size_t place, lowest;
  };
  using Stack = std::vector<Choice>;

  Regex() = default;
  static size_t character_size(std::string_view text, size_t at);
  // The first match from match.begin on.
  bool find(std::string_view text, Match& match, Stack& stack) const;
  size_t match_at(std::string_view text, size_t at, Stack& stack) const;  // its end; SIZE_MAX where there is none

  std::vector<Set> sets_;
  std::vector<Instruction> code_;
  std::string literal_;  // instead of a program
};

}  // namespace supra
