#include "tools/png.h"

#include <algorithm>
#include <bit>

#include "supra/formats/zip.h"
#include "tensor/error.h"

namespace supra {
namespace {

std::string big_endian(uint32_t n) {
  return {static_cast<char>(n >> 24), static_cast<char>(n >> 16), static_cast<char>(n >> 8), static_cast<char>(n)};
}

std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<uint32_t>(data.size())) + type + data + big_endian(crc32(0, type + data));
}

// One block of deflate (RFC 1951) with the fixed codes.
class Deflater {
 public:
  // The only block, of fixed codes.
  Deflater() { bits(0b011, 3); }

  void literal(uint8_t byte) { symbol(byte); }

  // The last byte, `length` times more: 3 to 258.
  void repeat(int length) {
    const uint32_t n = static_cast<uint32_t>(length) - 3;
    if (n == 255) {
      symbol(285);
    } else if (n < 8) {
      symbol(257 + n);
    } else {
      const int extra = std::bit_width(n) - 3;
      symbol(257 + 4 * (extra + 1) + (n >> extra & 3));
      bits(n & ((1u << extra) - 1), extra);
    }
    // a distance of 1
    bits(0, 5);
  }

  std::string finish() {
    symbol(256);
    bits(0, 7);
    return std::move(out_);
  }

 private:
  // RFC 1951, 3.2.6
  void symbol(uint32_t s) {
    if (s < 144) code(0x30 + s, 8);
    else if (s < 256) code(0x190 + s - 144, 9);
    else if (s < 280) code(s - 256, 7);
    else code(0xc0 + s - 280, 8);
  }
  // Codes go from their highest bit, other numbers from their lowest.
  void code(uint32_t value, int count) {
    while (count-- > 0) bits(value >> count & 1, 1);
  }
  void bits(uint32_t value, int count) {
    held_ |= value << count_;
    for (count_ += count; count_ >= 8; count_ -= 8, held_ >>= 8) out_ += static_cast<char>(held_);
  }

  std::string out_;
  uint32_t held_ = 0;
  int count_ = 0;
};

// zlib's form (RFC 1950): a header, one block, the Adler-32 of what it holds.
std::string zlib(const std::string& data) {
  Deflater deflater;
  uint32_t a = 1, b = 0;
  for (size_t at = 0; at < data.size();) {
    const char byte = data[at];
    const size_t end = std::min(data.find_first_not_of(byte, at), data.size());
    deflater.literal(static_cast<uint8_t>(byte));
    size_t more = end - at - 1;
    for (; more >= 3; more -= std::min<size_t>(more, 258)) deflater.repeat(static_cast<int>(std::min<size_t>(more, 258)));
    for (; more > 0; more--) deflater.literal(static_cast<uint8_t>(byte));
    for (; at < end; at++) a = (a + static_cast<uint8_t>(byte)) % 65521, b = (b + a) % 65521;
  }
  return "\x78\x01" + deflater.finish() + big_endian(b << 16 | a);
}

}  // namespace

std::string encode_png(int width, int height, std::span<const uint8_t> rgb) {
  const size_t row = static_cast<size_t>(width) * 3, rows = static_cast<size_t>(height);
  CHECK(width > 0 && height > 0 && rgb.size() == row * rows, "png: %zu bytes are no picture of %d x %d", rgb.size(), width, height);
  std::string filtered;
  filtered.reserve((row + 1) * rows);
  for (size_t y = 0; y < rows; y++) {
    // filter 2: less the pixel above
    filtered += '\2';
    for (size_t x = 0; x < row; x++) filtered += static_cast<char>(rgb[y * row + x] - (y > 0 ? rgb[(y - 1) * row + x] : 0));
  }
  // 8 bits a channel, colour type 2 (RGB)
  const std::string header = big_endian(static_cast<uint32_t>(width)) + big_endian(static_cast<uint32_t>(height)) + std::string("\x08\x02\0\0\0", 5);
  return "\x89PNG\r\n\x1a\n" + chunk("IHDR", header) + chunk("IDAT", zlib(filtered)) + chunk("IEND", "");
}

}  // namespace supra
