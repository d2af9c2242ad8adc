#pragma once
#include <functional>
#include <span>
#include <vector>

#include "supra/evaluation/choices.h"

namespace supra {

// A statement in a text and a question about it, asked at several distances.
struct Ask {
  int64_t told = 0;                           // the position of the statement in the text
  int64_t ready = 0;                          // ids of the text that must be read before the question can be asked
  std::vector<int32_t> question;              // comes before each ending; may be empty
  std::vector<std::vector<int32_t>> endings;  // the possible continuations
};

struct DistanceProbe {
  std::vector<int32_t> text;  // long enough for the largest distance of each ask
  std::vector<Ask> asks;
};

// The needed part of the text, the question and one of the endings, which begins `distance` ids after `told`.
Request request_at(const DistanceProbe& probe, const Ask& ask, int64_t distance, size_t ending);

// The number of positions that a model needs to read all of them at this distance.
int64_t positions_at(const std::vector<DistanceProbe>& probes, int64_t distance);

// 64, 128, 256, ... up to `most`.
std::vector<int64_t> doubling_distances(int64_t most);

// Called with the number of finished tokens and of all tokens.
using OnTokens = std::function<void(int64_t done, int64_t total)>;

// Calls on_scores(probe, ask, distance, scores of the ask's endings) with indices into the lists, for all of them. Distances ascend.
// An ask is left out at distances where it is not ready. Each text is read once; copies of its state answer the questions.
void score_at_distances(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                        const std::function<void(size_t probe, size_t ask, size_t distance, const std::vector<Score>&)>& on_scores,
                        const OnTokens& on_tokens = {});

}  // namespace supra
