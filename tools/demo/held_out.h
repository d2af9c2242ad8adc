#pragma once
#include <vector>

#include "supra/evaluation/recall.h"
#include "supra/tokenizers/tokenizer.h"
#include "tools/demo/story_grammar.h"

// Stories of the grammar that no model was trained on (kHeldOutStories): how well a model predicts and remembers them.

namespace supra {

struct HeldOut {
  std::vector<std::vector<int32_t>> sequences;
  std::vector<RecallText> recall;
  int64_t bytes = 0;
  double floor = 0;  // bits per byte
};

// Makes `count` stories of at most `context` tokens.
HeldOut held_out_stories(const Tokenizer& tokenizer, int count, size_t context);

}  // namespace supra
