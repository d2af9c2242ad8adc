#pragma once
#include <string>
#include <string_view>

namespace supra {

// Turns pieces, which may end inside a character, into text of whole characters that can be printed at once. Invalid UTF-8
// becomes U+FFFD, one for each longest beginning of a character, as the Unicode standard recommends (section 3.9).
class TextStream {
 public:
  // Takes bytes and returns the text that is now complete. Holds back at most 3 bytes.
  std::string push(std::string_view bytes);

  // Ends the text: returns U+FFFD if the last character is unfinished, else nothing. The stream begins again.
  std::string flush();

  const std::string& held() const { return held_; }

 private:
  std::string held_;
};

}  // namespace supra
