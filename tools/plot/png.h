#pragma once
#include <cstdint>
#include <span>
#include <string>

// Pictures as PNG files, written by stb_image_write.

namespace supra {

// Why this build cannot write PNG files and what to do about it; empty if it can.
std::string why_no_png();

// The bytes of a PNG file of `rgb`: rows of r, g, b, a byte each, from the top. Throws Error if this build writes none.
std::string encode_png(int width, int height, std::span<const uint8_t> rgb);

}  // namespace supra
