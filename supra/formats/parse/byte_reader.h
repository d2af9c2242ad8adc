#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>

#include "tensor/error.h"

namespace supra {

// The bytes of a number, or of a struct without padding.
template <class T>
  requires std::is_trivially_copyable_v<T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Reads the little-endian numbers and the texts of a binary file one after another. Checks every size; errors name the file,
// what it was to read and the place. `where` and the bytes must outlive it.
class ByteReader {
 public:
  ByteReader(std::string_view bytes, const std::string& where, uint64_t at = 0)
      : bytes_(bytes), where_(&where), at_(at) {}

  uint64_t at() const { return at_; }
  uint64_t left() const { return at_ < bytes_.size() ? bytes_.size() - at_ : 0; }

  std::string_view bytes(uint64_t n, const char* what) {
    CHECK(n <= left(), "%s: is cut short or damaged: %s needs %lu bytes from byte %lu on, there are %lu", where_->c_str(), what,
          static_cast<unsigned long>(n), static_cast<unsigned long>(at_), static_cast<unsigned long>(left()));
    const uint64_t begin = at_;
    at_ += n;
    return bytes_.substr(begin, n);
  }

  template <class T>
  T number(const char* what) {
    T value;
    memcpy(&value, bytes(sizeof value, what).data(), sizeof value);
    return value;
  }

 private:
  std::string_view bytes_;
  const std::string* where_;
  uint64_t at_;
};

}  // namespace supra
