#pragma once
#include <cstdint>
#include <string_view>

namespace supra {

// The CRC-32 of zip, PNG and zlib over more bytes; that of none is 0.
uint32_t crc32(uint32_t crc, std::string_view bytes);

}  // namespace supra
