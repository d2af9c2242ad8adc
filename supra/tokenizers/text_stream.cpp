#include "supra/tokenizers/text_stream.h"

#include "supra/formats/parse/utf8.h"

namespace supra {

static constexpr std::string_view replacement = "\xef\xbf\xbd";

// Whether these bytes are the beginning of a character.
static bool is_beginning(std::string_view bytes) {
  if (bytes.empty() || bytes.size() > 3) return false;
  const auto first = static_cast<uint8_t>(bytes[0]);
  if (bytes.size() == 1) return first >= 0xc2 && first <= 0xf4;
  // the first byte limits only the second; after it any continuation byte is valid
  return utf8_length(std::string(bytes) + "\x80\x80") > bytes.size();
}

std::string TextStream::push(std::string_view bytes) {
  held_ += bytes;
  std::string text;
  std::string_view rest = held_;
  while (!rest.empty() && !is_beginning(rest)) {
    size_t size = utf8_length(rest);
    if (size > 0) {
      text += rest.substr(0, size);
    } else {
      text += replacement;
      size = 3;
      while (size > 1 && !is_beginning(rest.substr(0, size))) size--;
    }
    rest.remove_prefix(size);
  }
  held_ = std::string(rest);
  return text;
}

std::string TextStream::flush() {
  const bool unfinished = !held_.empty();
  held_.clear();
  return std::string(unfinished ? replacement : "");
}

}  // namespace supra
