#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Unicode as far as tokenizers need it (tables of version 15.1).

namespace supra {

// General categories, two letters each. The last three are subsets that need a bit of their own: control characters
// that are blanks, symbols that count as letters of words, and joiners.
inline constexpr std::string_view kCategoryNames = "LuLlLtLmLoMnMcMeNdNlNoPcPdPsPePiPfPoSmScSkSoZsZlZpCcCfCnCcSoCf";

// A set of categories, a bit each: those that a name such as L or Lu means; 0 for one that is not known.
constexpr uint32_t categories_named(std::string_view name) {
  uint32_t found = 0;
  for (size_t i = 0; i < kCategoryNames.size() && !name.empty(); i += 2) {
    if (kCategoryNames.substr(i, 2).starts_with(name)) found |= 1u << (i / 2);
  }
  return found;
}
inline constexpr uint32_t kLetters = categories_named("L"), kMarks = categories_named("M");
inline constexpr uint32_t kSpaces = categories_named("Z") | 1u << 28;  // the property White_Space
// letters, marks, digits and underscores, as Oniguruma has \w; and what Rust's regular expressions count among them
inline constexpr uint32_t kWords = kLetters | kMarks | categories_named("Nd") | categories_named("Nl") | categories_named("Pc") | 1u << 29;
inline constexpr uint32_t kJoiners = 1u << 30;

uint32_t category_of(uint32_t code_point);  // one bit
inline bool is_in(uint32_t categories, uint32_t code_point) { return (category_of(code_point) & categories) != 0; }

// The first code point of a text that is not empty, and its bytes. A byte that is no UTF-8 stands for itself, as
// U+FFFD of size 1.
struct Character {
  uint32_t code_point;
  size_t size;
};
Character first_character(std::string_view text);
// Where the character before `at` begins, at > 0.
inline size_t place_before(std::string_view text, size_t at) {
  size_t place = at - 1;
  while (place > 0 && at - place < 4 && (text[place] & 0xc0) == 0x80) place--;
  return first_character(text.substr(place)).size == at - place ? place : at - 1;
}

uint32_t lower_case(uint32_t code_point);
std::vector<uint32_t> capitals_of(uint32_t code_point);  // those that this is the lower case of

// A character of a text that was rewritten. `change`: 0 replaces one character of the old text, -n takes away n more
// behind it, 1 was put in.
struct Rewritten {
  uint32_t code_point;
  int32_t change;
};

// Normalisation forms (Unicode Standard Annex 15): C and KC compose; KC and KD also replace compatible characters.
struct NormalForm {
  bool composed, compatible;
};
std::vector<Rewritten> normal_form(std::string_view text, NormalForm form);

}  // namespace supra
