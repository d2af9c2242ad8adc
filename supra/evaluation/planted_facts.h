#pragma once
#include <span>
#include <string>

#include "supra/evaluation/distance_probe.h"
#include "supra/evaluation/mean.h"

namespace supra {

// Tests whether a model finds statements far back in a real text. They are planted into the text, one after the other:
//   "The secret number of Anna is 7421." and the same with other names: one of them is asked for
//   "The door code of Ben is 1310.": the only one of its kind
// Then filler follows. Its first tokens, a span, are repeated later.
struct FactOptions {
  int64_t items = 20;         // texts
  int64_t alternatives = 20;  // choices: the right number, the other planted ones of its kind, then numbers that are not in the text
  int64_t facts = 4;          // planted facts of the same kind
  int64_t span = 64;          // tokens
  uint64_t seed = 1;          // random seed of names, numbers and places in the filler
  bool bos = false;
  std::string filler_name = "the filler";  // name for error messages
};

// Texts with three questions each: the fact that is alone of its kind, one of `facts`, the span. The first ending is right; all have
// the same number of tokens. Filler also precedes the facts, so that they are not attention sinks. Throws Error if the filler is too
// short for the largest distance, or that distance is too short for the sentences.
std::vector<DistanceProbe> plant_facts(const Tokenizer& tokenizer, std::span<const int32_t> filler, const std::vector<int64_t>& distances,
                                       const FactOptions& options);

struct FactRecall {
  Mean accuracy;     // texts whose right number is the most likely one; chance is 1/alternatives. With several facts it is 1/facts for a
                     // model that knows the numbers but not their owners
  Mean rank;         // of the right one; (alternatives + 1) / 2 by chance
  Mean probability;  // of the right one, among the alternatives
  Mean greedy;       // texts in which greedy decoding writes the number
};

struct Repetition {
  Mean first, second;  // nats per token of the first and second occurrence of the span
  Mean gain;           // first - second, span by span; 0 for a model without memory
};

struct RecallAt {
  int64_t distance = 0;    // in tokens, from the statement to the question
  int64_t positions = 0;   // length of the longest text, which the model must be able to read
  FactRecall one, among;   // empty if the distance is too short for the sentences
  Repetition again;        // empty if it is too short for a span
};
// One row per distance.
std::vector<RecallAt> recall_facts(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                                   const OnTokens& on_tokens = {});

}  // namespace supra
