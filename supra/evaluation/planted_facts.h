#pragma once
#include <span>

#include "supra/evaluation/choices.h"

namespace supra {

// Whether a model finds one sentence again in a long text: "The secret number of Anna is 7421.", then filler, then "The secret
// number of Anna is". The right number must be more likely than nine others.
struct FactOptions {
  int64_t items = 20;
  uint64_t seed = 1;  // of names, numbers and places in the filler
  bool bos = false;
};

// The candidates of each item, the right one first. `distance`: tokens from the number that is told to where it is asked for.
// Filler stands before the fact too, so that it is no attention sink. Every distance has the same names and numbers.
std::vector<std::vector<Request>> plant_facts(const Tokenizer& tokenizer, std::span<const int32_t> filler, int64_t distance,
                                              const FactOptions& options);

struct FactRecall {
  Accuracy accuracy;  // items whose right candidate is the most likely one; by chance .1
  double rank = 0;    // mean of the right candidate among ten; by chance 5.5
  double greedy = 0;  // share of the items where greedy decoding writes the number
};
FactRecall recall_facts(const Decoder& decoder, const std::vector<std::vector<Request>>& items, const OnItems& on_items = {});

}  // namespace supra
