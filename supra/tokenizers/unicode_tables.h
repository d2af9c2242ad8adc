#pragma once

namespace supra {

// The Unicode character database as far as tokenizers need it: numbers in hexadecimal, separated by spaces.
extern const char* const kLetters;         // first and last of each range of general category L
extern const char* const kNumbers;         // of category N
extern const char* const kCombining;       // first, last and canonical combining class (decimal) of each range
extern const char* const kSingletons;      // character and what it decomposes to
extern const char* const kOnlyDecomposed;  // character and the two it decomposes to, which are not composed again
extern const char* const kPairs;           // character and the two that compose it

}  // namespace supra
