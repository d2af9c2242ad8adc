#include "tensor/shape.h"

#include "tensor/error.h"

namespace supra {

void Shape::refuse(size_t rank) { fail("a shape of %zu dimensions was requested, at most %zu are possible", rank, kMostDimensions); }

int64_t numel(const Shape& shape) {
  int64_t n = 1;
  for (int64_t size : shape) {
    CHECK(size >= 0 && !__builtin_mul_overflow(n, size, &n), "shape %s is negative or too large", to_string(shape).c_str());
  }
  return n;
}

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + ")";
}

}  // namespace supra
