#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// UTF-8 (RFC 3629), one code point at a time.

namespace supra {

// Bytes of the code point that begins at text[0]: 1 to 4, or 0 where there is none: cut short, overlong, a
// surrogate, above U+10FFFF, or the text is empty.
size_t utf8_length(std::string_view text);

// Whether a text is UTF-8 throughout.
bool is_utf8(std::string_view text);

// Appends a code point, which must be a Unicode scalar value.
void append_utf8(std::string& text, uint32_t code_point);

}  // namespace supra
