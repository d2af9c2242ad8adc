#pragma once
#include <span>
#include <string>

#include "supra/evaluation/distance_probe.h"
#include "supra/evaluation/mean.h"

namespace supra {

// Whether a model finds one sentence again in a long text: "The secret number of Anna is 7421.", then filler, then "The secret
// number of Anna is". The right number competes with others that have as many tokens.
struct FactOptions {
  int64_t items = 20;
  int64_t alternatives = 20;  // numbers to choose from, the right one among them
  int64_t facts = 1;          // told one behind the other, of which one is asked for; the other numbers are among the alternatives
  uint64_t seed = 1;          // of names, numbers and places in the filler
  bool bos = false;
  std::string filler_name = "the filler";  // in errors
};

// The first ending is the right one. Filler stands before the facts too, so that they are no attention sink. Throws Error where the
// filler is too short for the largest distance, or the smallest distance for the sentence.
std::vector<DistanceProbe> plant_facts(const Tokenizer& tokenizer, std::span<const int32_t> filler, const std::vector<int64_t>& distances,
                                       const FactOptions& options);

struct FactRecall {
  int64_t distance = 0;   // in tokens, from the number that is told to where it is asked for
  int64_t positions = 0;  // of the longest text: what the model must know
  Mean accuracy;          // items whose right number is the likeliest one: 1/alternatives by chance, 1/facts for a model that knows the
                          // numbers and not whose they are
  Mean rank;              // of the right one; (alternatives + 1) / 2 by chance
  Mean probability;       // of the right one, among the alternatives
  Mean greedy;            // items where greedy decoding writes the number
};
// One row a distance.
std::vector<FactRecall> recall_facts(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                                     const OnTokens& on_tokens = {});

}  // namespace supra
