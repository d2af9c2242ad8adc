#pragma once
#include <span>
#include <string>

#include "supra/evaluation/distance_probe.h"
#include "supra/evaluation/mean.h"

namespace supra {

// Whether a model copies what it has seen: a span of a text occurs a second time. A model that remembers it predicts it better than
// the first time.
struct RepetitionOptions {
  int64_t items = 20, span = 64;
  uint64_t seed = 1;  // of the places of spans in the text
  bool bos = false;
  std::string text_name = "the text";  // in errors
};

// Probes whose one ending is the span. Throws Error where the text is too short for the largest distance, or the smallest distance for
// the span.
std::vector<DistanceProbe> repeat_spans(const Tokenizer& tokenizer, std::span<const int32_t> text, const std::vector<int64_t>& distances,
                                        const RepetitionOptions& options);

struct Repetition {
  int64_t distance = 0;   // in tokens, from the first id of the span to the same one again
  int64_t positions = 0;  // of the longest text: what the model must know
  Mean first, second;     // nats a token of either occurrence
  Mean gain;              // first - second of the same span; 0 without memory
};
// One row a distance.
std::vector<Repetition> measure_repetition(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                                           const OnTokens& on_tokens = {});

}  // namespace supra
