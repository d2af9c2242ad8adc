#pragma once

namespace supra {

// The parts of the Unicode character database that tokenizers need (written by tools/build/unicode_tables.awk). A number is
// written in base 46, the lowest digit first: its last digit with the 46 characters from '#' on, the others with the 46
// characters after those.
extern const char* const kCategories;  // of each run, from code point 0: category (index in kCategoryNames) and length
extern const char* const kCombining;   // of each run: gap before it, length, canonical combining class
// Kind (0: composed again, 1: compatibility, 2: never composed) + 3 (parts - 1), the character and its parts as differences to
// the row before, and the number of further rows with the same differences.
extern const char* const kDecompositions;
extern const char* const kLower;  // of each run of capitals: first (a difference), 2 count + step - 1, difference to lower case

}  // namespace supra
