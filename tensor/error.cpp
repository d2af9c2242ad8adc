#include "tensor/error.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

namespace supra {

static std::string vformat(const char* fmt, va_list args) {
  va_list again;
  va_copy(again, args);
  std::string text(static_cast<size_t>(std::max(0, vsnprintf(nullptr, 0, fmt, args))), '\0');
  vsnprintf(text.data(), text.size() + 1, fmt, again);
  va_end(again);
  return text;
}

std::string format(const char* fmt, ...) {
  va_list args;
  va_start(args, fmt);
  std::string text = vformat(fmt, args);
  va_end(args);
  return text;
}

void fail(const char* fmt, ...) {
  va_list args;
  va_start(args, fmt);
  std::string text = vformat(fmt, args);
  va_end(args);
  throw Error(text);
}

}  // namespace supra
