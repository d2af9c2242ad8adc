#pragma once
#include <functional>
#include <span>
#include <vector>

#include "supra/evaluation/choices.h"

namespace supra {

// Something that is told in a text and asked for again, at one distance after the other.
struct Ask {
  int64_t told = 0;                           // where in the text stands what is asked for
  int64_t ready = 0;                          // ids of the text that must be read before it can be asked for
  std::vector<int32_t> question;              // stands in front of each ending; may be empty
  std::vector<std::vector<int32_t>> endings;  // what may follow
};

struct DistanceProbe {
  std::vector<int32_t> text;  // reaches to the largest distance of each ask
  std::vector<Ask> asks;
};

// The text so far as it is needed, the question and one of the endings, which begins `distance` ids behind `told`.
Request request_at(const DistanceProbe& probe, const Ask& ask, int64_t distance, size_t ending);

// Positions that a model must know to read all of them at this distance.
int64_t positions_at(const std::vector<DistanceProbe>& probes, int64_t distance);

// 64, 128, 256, ... up to `most`.
std::vector<int64_t> doubling_distances(int64_t most);

// Called with the tokens done and the tokens there are.
using OnTokens = std::function<void(int64_t done, int64_t total)>;

// on_scores(probe, ask, distance, scores of the ask's endings), by their places in the lists, for all of them. Distances ascend. An ask is
// left out at distances where it is not ready. Each text is read once: branches of its state answer.
void score_at_distances(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                        const std::function<void(size_t probe, size_t ask, size_t distance, const std::vector<Score>&)>& on_scores,
                        const OnTokens& on_tokens = {});

}  // namespace supra
