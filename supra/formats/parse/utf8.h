#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

// UTF-8 (RFC 3629), one code point at a time.

namespace supra {

// The size in bytes, 1 to 4, of the code point at text[0]. 0 if it is not valid (cut short, overlong, a surrogate, above
// U+10FFFF) or the text is empty.
size_t utf8_length(std::string_view text);

// Whether the whole text is valid UTF-8.
bool is_utf8(std::string_view text);

// Appends a code point, which must be a Unicode scalar value.
void append_utf8(std::string& text, uint32_t code_point);

}  // namespace supra
