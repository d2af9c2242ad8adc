#include "tools/plot/png.h"

#include <climits>

#include "tensor/error.h"

#if defined(SUPRA_STB)
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#include <stb/stb_image_write.h>
#endif

namespace supra {

#if defined(SUPRA_STB)

std::string why_no_png() { return ""; }

std::string encode_png(int width, int height, std::span<const uint8_t> rgb) {
  const size_t row = static_cast<size_t>(width) * 3, rows = static_cast<size_t>(height);
  CHECK(width > 0 && height > 0 && rgb.size() == row * rows, "png: %zu bytes are not a picture of %d x %d", rgb.size(), width, height);
  // stb counts bytes in int and doubles its buffers
  CHECK(rgb.size() < INT_MAX / 4, "png: a picture of %d x %d is too large, at most %d pixels are expected", width, height, INT_MAX / 12);
  std::string file;
  const auto append = [](void* to, void* bytes, int count) {
    static_cast<std::string*>(to)->append(static_cast<const char*>(bytes), static_cast<size_t>(count));
  };
  CHECK(stbi_write_png_to_func(append, &file, width, height, 3, rgb.data(), width * 3), "png: no memory for a picture of %d x %d",
        width, height);
  return file;
}

#else

std::string why_no_png() { return "this build writes no PNG files (apt-get install libstb-dev, then make)"; }

std::string encode_png(int, int, std::span<const uint8_t>) { fail("%s", why_no_png().c_str()); }

#endif

}  // namespace supra
