#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "tensor/random.h"

namespace supra {

// One of the inputs with a few changes of the kinds that break parsers: bits, numbers at the edge of their
// type, parts cut out, doubled, or put in from another input.
inline std::string mutate(const std::vector<std::string>& inputs, Philox& random, size_t most = 1 << 16) {
  const auto any = [&]() -> const std::string& { return inputs[random.below(inputs.size())]; };
  const auto place = [&](const std::string& s) { return random.below(s.size() + 1); };
  constexpr uint64_t kEdges[] = {0,
                                 1,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x7fff,
                                 0xffff,
                                 0x7fffffff,
                                 0x80000000,
                                 0xffffffff,
                                 ~uint64_t{0} >> 1,
                                 ~uint64_t{0},
                                 uint64_t{1} << 32,
                                 uint64_t{1} << 62};
  std::string bytes = any();
  for (uint64_t changes = uint64_t{1} << random.below(4); changes > 0; changes--) {
    const size_t at = place(bytes),
                 size = std::min<size_t>(bytes.size() - at, random.below(random.below(2) ? 16 : 256));
    switch (random.below(6)) {
      case 0:
        if (at < bytes.size()) bytes[at] ^= static_cast<char>(1 << random.below(8));
        break;
      case 1: {
        const uint64_t edge = kEdges[random.below(std::size(kEdges))];
        const size_t width = size_t{1} << random.below(4);
        bytes.replace(at, std::min(bytes.size() - at, width), reinterpret_cast<const char*>(&edge), width);
        break;
      }
      case 2:
        bytes.erase(at, size);
        break;
      case 3:
        bytes.insert(place(bytes), bytes.substr(at, size));
        break;
      case 4: {
        const std::string& other = any();
        bytes.replace(at, size, other.substr(place(other), random.below(64)));
        break;
      }
      default:
        if (random.below(8) == 0) bytes.resize(at);
    }
  }
  bytes.resize(std::min(bytes.size(), most));
  return bytes;
}

}  // namespace supra
