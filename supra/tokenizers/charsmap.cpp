#include "supra/tokenizers/charsmap.h"

#include <cstring>

#include "supra/formats/parse/byte_reader.h"
#include "supra/formats/parse/utf8.h"

namespace supra {

CharsMap::CharsMap(std::string_view bytes, const std::string& where) {
  ByteReader in(bytes, where);
  const auto size = in.number<uint32_t>("the size of a charsmap's trie");
  const std::string_view trie = in.bytes(size, "a charsmap's trie");
  CHECK(size > 0 && size % sizeof(uint32_t) == 0, "%s: a charsmap's trie has %u bytes, not a multiple of 4",
        where.c_str(), size);
  units_.resize(size / sizeof(uint32_t));
  memcpy(units_.data(), trie.data(), size);
  texts_ = in.bytes(in.left(), "a charsmap's texts");
  CHECK(texts_.ends_with('\0'), "%s: a charsmap's last text does not end", where.c_str());
  CHECK(is_utf8(texts_), "%s: a charsmap's texts are not UTF-8 (the file is damaged)", where.c_str());
}

// A unit of the trie has the byte that leads to it (8 bits, bit 31 is 0), whether it has a value (bit 8), and the distance to
// its children (bits 10 to 30, times 256 if bit 9 is set). A unit that is a value has 31 bits of it.
CharsMap::Rule CharsMap::match(std::string_view text, bool shortest) const {
  if (units_.empty()) return {};
  const auto offset = [](uint32_t unit) { return (unit >> 10) << ((unit & 1u << 9) >> 6); };
  Rule found;
  uint32_t node = offset(units_[0]);
  for (size_t i = 0; i < text.size(); i++) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node ^= byte;
    if (node >= units_.size() || (units_[node] & (1u << 31 | 0xff)) != byte) break;
    const uint32_t unit = units_[node];
    node ^= offset(unit);
    if (!(unit & 1u << 8)) continue;
    if (node >= units_.size()) break;
    const uint32_t at = units_[node] & ~(1u << 31);
    if (at < texts_.size()) found = {i + 1, texts_.c_str() + at};
    if (shortest) break;
  }
  return found;
}

std::string bytes_of_base64(std::string_view text, const std::string& where) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t digit = kDigits.find(c);
    CHECK(digit != kDigits.npos, "%s: \"%c\" is not a digit of base 64 (the file is damaged)", where.c_str(), c);
    bits = bits << 6 | static_cast<uint32_t>(digit);
    if ((count += 6) < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count);
  }
  return bytes;
}

}  // namespace supra
