#pragma once
#include <cstdint>
#include <string_view>

namespace supra {

// Continues a CRC-32 (that of zip, PNG and zlib) with more bytes. It begins with 0.
uint32_t crc32(uint32_t crc, std::string_view bytes);

}  // namespace supra
