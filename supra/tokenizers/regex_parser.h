#pragma once
#include "supra/tokenizers/regex.h"

namespace supra {

// Turns an expression into the program that Regex runs, in one pass without recursion. All jumps are relative, so the code
// before a repeat or an alternative can be moved to make room for a new instruction.
class RegexParser {
 public:
  RegexParser(std::string_view expression, const std::string& where) : expression_(expression), where_(where), rest_(expression) {}
  void parse();

  std::vector<Regex::Instruction> code;
  std::vector<Regex::Set> sets;

 private:
  using Op = Regex::Op;
  struct Group {
    size_t begin, alternative;   // the beginning of the group and of its last alternative
    std::vector<size_t> exits;   // jumps to its end
    Op end;                      // match: a plain pair of brackets
    bool folds;                  // letters stand for both cases
  };

  [[noreturn]] void refuse(const std::string& what) const;
  bool take(std::string_view text);
  uint32_t take_character();
  void open_group();
  size_t close_group();
  void end_alternative();
  void read_anchor_or_escape();
  void read_class();
  // Reads what follows a backslash: returns a character, or adds a class to the set and returns -1.
  int64_t read_escape(Regex::Set& set);
  uint32_t read_property();  // as categories
  bool read_repeat(size_t begin);
  void repeat(size_t begin, uint32_t least, uint32_t most, bool lazy, bool possessive);
  void add_set(Regex::Set set);
  void add_both_cases(Regex::Set& set) const;

  const std::string_view expression_;
  const std::string& where_;
  std::string_view rest_;
  std::vector<Group> groups_;
};

}  // namespace supra
