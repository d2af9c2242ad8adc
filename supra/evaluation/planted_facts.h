#pragma once
#include <span>
#include <string>

#include "supra/evaluation/distance_probe.h"
#include "supra/evaluation/mean.h"

namespace supra {

// Whether a model finds again what stands far back in a real text. Planted into it, one behind the other:
//   "The secret number of Anna is 7421." and the same of other names: one of them is asked for
//   "The door code of Ben is 1310.": the only one of its kind
// Then filler follows. Its first tokens, a span, are repeated later.
struct FactOptions {
  int64_t items = 20;         // texts
  int64_t alternatives = 20;  // numbers to choose from, the right one among them; the others of its kind, then numbers never told
  int64_t facts = 4;          // of one kind
  int64_t span = 64;          // tokens
  uint64_t seed = 1;          // of names, numbers and places in the filler
  bool bos = false;
  std::string filler_name = "the filler";  // in errors
};

// Texts with three asks each: the fact alone of its kind, one of `facts`, the span. The first ending is the right one, all are of as many
// tokens. Filler stands before the facts too, so that they are no attention sink. Throws Error where the filler is too short for the
// largest distance, or that distance for the sentences.
std::vector<DistanceProbe> plant_facts(const Tokenizer& tokenizer, std::span<const int32_t> filler, const std::vector<int64_t>& distances,
                                       const FactOptions& options);

struct FactRecall {
  Mean accuracy;     // texts whose right number is the likeliest one: 1/alternatives by chance; of one among several 1/facts for a model
                     // that knows the numbers and not whose they are
  Mean rank;         // of the right one; (alternatives + 1) / 2 by chance
  Mean probability;  // of the right one, among the alternatives
  Mean greedy;       // texts where greedy decoding writes the number
};

struct Repetition {
  Mean first, second;  // nats a token of either occurrence of the span
  Mean gain;           // first - second of the same span; 0 without memory
};

struct RecallAt {
  int64_t distance = 0;    // in tokens, from what is told to where it is asked for
  int64_t positions = 0;   // of the longest text: what the model must know
  FactRecall one, among;   // of no text where the distance is too short for the sentences
  Repetition again;        // or for a span
};
// One row a distance.
std::vector<RecallAt> recall_facts(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                                   const OnTokens& on_tokens = {});

}  // namespace supra
