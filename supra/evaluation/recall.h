#pragma once
#include <cstdint>
#include <utility>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// A text with places that can only be known from what stood before.
struct RecallText {
  std::vector<int32_t> ids;
  std::vector<std::pair<int64_t, int64_t>> spans;  // [begin, end) of ids, begin >= 1
};

// The share of spans that a model recalls: each of their tokens is the most likely one, given the true text before it.
double recall(const Decoder& decoder, const std::vector<RecallText>& texts);

}  // namespace supra
