#pragma once

namespace supra {

// The Unicode character database as far as tokenizers need it (tools/build/unicode_tables.awk). A number is written in base
// 46, the lowest digit first: its last digit as the characters from '#' on, those before as the characters behind them.
extern const char* const kCategories;      // the category (its place in kCategoryNames) and length of each run, from 0 on
extern const char* const kCombining;       // gap in front, length and canonical combining class of each run
// Kind (0: composed again, 1: for compatibility, 2: never composed) + 3 (parts - 1), the character and its parts as
// differences to the row before, and how many rows follow with the same differences.
extern const char* const kDecompositions;
extern const char* const kLower;           // each run of capitals: first (a difference), 2 count + step - 1, what to add

}  // namespace supra
