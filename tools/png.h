#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace supra {

// The bytes of a PNG file (RFC 2083) of `rgb`: rows of r, g, b, a byte each, from the top. Made for drawings: what repeats
// the pixel above is squeezed to almost nothing, anything else takes a byte or nine bits.
std::string encode_png(int width, int height, std::span<const uint8_t> rgb);

}  // namespace supra
