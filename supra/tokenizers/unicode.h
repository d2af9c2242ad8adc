#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// The parts of Unicode that tokenizers need (version 15.1).

namespace supra {

// General categories, two letters each. The last three are subsets with a separate bit: control characters that are blanks,
// symbols that count as letters of words, and joiners.
inline constexpr std::string_view kCategoryNames = "LuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCnCcSoCf";

// The categories of a name such as L or Lu as a set of bits; 0 for an unknown name.
constexpr uint32_t categories_named(std::string_view name) {
  uint32_t found = 0;
  for (size_t i = 0; i < kCategoryNames.size() && !name.empty(); i += 2) {
    if (kCategoryNames.substr(i, 2).starts_with(name)) found |= 1u << (i / 2);
  }
  return found;
}
inline constexpr uint32_t kLetters = categories_named("L"), kMarks = categories_named("M");
inline constexpr uint32_t kSpaces = categories_named("Z") | 1u << 28;  // the property White_Space
// \w of Oniguruma: letters, marks, digits and underscores; and the symbols that Rust's regular expressions add
inline constexpr uint32_t kWords = kLetters | kMarks | categories_named("Nd") | categories_named("Nl") | categories_named("Pc") | 1u << 29;
inline constexpr uint32_t kJoiners = 1u << 30;

uint32_t category_of(uint32_t code_point);  // one bit
inline bool is_in(uint32_t categories, uint32_t code_point) { return (category_of(code_point) & categories) != 0; }

// The first code point of a non-empty text, and its size. A byte that is not UTF-8 is U+FFFD with size 1.
struct Character {
  uint32_t code_point;
  size_t size;
};
Character first_character(std::string_view text);
// The place of the character before `at` > 0.
inline size_t place_before(std::string_view text, size_t at) {
  size_t place = at - 1;
  while (place > 0 && at - place < 4 && (text[place] & 0xc0) == 0x80) place--;
  return first_character(text.substr(place)).size == at - place ? place : at - 1;
}

uint32_t lower_case(uint32_t code_point);
std::vector<uint32_t> capitals_of(uint32_t code_point);  // the characters with this lower case

// A character of a rewritten text. `change` 0: it replaces one character of the old text; -n: and n more are removed after it;
// 1: it was inserted.
struct Rewritten {
  uint32_t code_point;
  int32_t change;
};

// Normalisation forms (Unicode Standard Annex 15): C and KC compose; KC and KD also replace compatibility characters.
struct NormalForm {
  bool composed, compatible;
};
std::vector<Rewritten> normal_form(std::string_view text, NormalForm form);

}  // namespace supra
