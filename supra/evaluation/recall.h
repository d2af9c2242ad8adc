#pragma once
#include <cstdint>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// A text with places that can only be known from what stood before.
struct RecallText {
  struct Span {
    int64_t begin, end;  // ids [begin, end), begin >= 1
    int64_t told;        // the id at which the same word began when it was told first, < begin
  };
  std::vector<int32_t> ids;
  std::vector<Span> spans;
};

// What became of a span: recalled if each of its tokens is the most likely one, given the true text before it.
struct Recalled {
  int64_t distance;  // in tokens, from where it was told
  bool right;
};
std::vector<Recalled> recalled(const Decoder& decoder, const std::vector<RecallText>& texts);

// The share of those with a distance in [least, most] that were recalled; 0 where there is none.
double share_recalled(const std::vector<Recalled>& spans, int64_t least = 0, int64_t most = INT64_MAX);

}  // namespace supra
