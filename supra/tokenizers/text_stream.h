#pragma once
#include <string>
#include <string_view>

namespace supra {

// Turns pieces, which may end inside a character, into text that never does: what push() returns can be
// printed at once. Bytes that are no UTF-8 become U+FFFD, one for each longest beginning of a character, as
// the Unicode standard recommends (section 3.9).
class TextStream {
 public:
  // Takes bytes; returns the text that is complete now. At most 3 bytes are held back.
  std::string push(std::string_view bytes);

  // The end: U+FFFD if a character was left unfinished, else nothing. The stream begins anew.
  std::string flush();

  const std::string& held() const { return held_; }

 private:
  std::string held_;
};

}  // namespace supra
