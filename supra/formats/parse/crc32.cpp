#include "supra/formats/parse/crc32.h"

#include <array>
#include <cstring>

namespace supra {

// Eight bytes at a time ("slicing by eight"): table k has the contribution of a byte that is followed by k more bytes.
static constexpr auto kTables = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0xedb88320 : 0);
    tables[0][i] = c;
  }
  for (size_t k = 1; k < 8; k++) {
    for (size_t i = 0; i < 256; i++) {
      const uint32_t before = tables[k - 1][i];
      tables[k][i] = before >> 8 ^ tables[0][before & 255];
    }
  }
  return tables;
}();

uint32_t crc32(uint32_t crc, std::string_view bytes) {
  crc = ~crc;
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    uint64_t word;
    memcpy(&word, bytes.data(), sizeof word);
    word ^= crc;
    crc = 0;
    for (int k = 0; k < 8; k++) crc ^= kTables[7 - k][word >> 8 * k & 255];
  }
  for (const char byte : bytes) crc = crc >> 8 ^ kTables[0][(crc ^ static_cast<uint8_t>(byte)) & 255];
  return ~crc;
}

}  // namespace supra
