#pragma once
#include <cstdint>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// A text with words that can only be known from the text before them.
struct RecallText {
  struct Span {
    int64_t begin, end;  // ids [begin, end), begin >= 1
    int64_t told;        // the id where the word first appeared, < begin
  };
  std::vector<int32_t> ids;
  std::vector<Span> spans;
};

// The result for a span: it is recalled if each of its tokens is the most likely one, given the true text before it.
struct Recalled {
  int64_t distance;  // in tokens, from the first appearance
  bool right;
};
std::vector<Recalled> recalled(const Decoder& decoder, const std::vector<RecallText>& texts);

// The share of recalled spans among those with a distance in [least, most]; 0 if there are none.
double share_recalled(const std::vector<Recalled>& spans, int64_t least = 0, int64_t most = INT64_MAX);

}  // namespace supra
