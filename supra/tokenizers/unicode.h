#pragma once
#include <cstdint>
#include <string>
#include <string_view>

// Unicode as far as tokenizers need it (tables of version 15.1).

namespace supra {

// What pre-tokenizers tell apart: \p{L}, \p{N}, \s and the rest.
enum class CharacterClass : uint8_t { other, letter, number, space };
CharacterClass class_of(uint32_t code_point);

// The first code point of a text that is not empty, and its bytes. A byte that is no UTF-8 stands for itself, as
// U+FFFD of size 1.
struct Character {
  uint32_t code_point;
  size_t size;
};
Character first_character(std::string_view text);

// Normalisation form C (Unicode Standard Annex 15).
std::string nfc(std::string_view text);

}  // namespace supra
