#pragma once
#include <functional>
#include <span>
#include <vector>

#include "supra/evaluation/choices.h"

namespace supra {

// Something that is told in a long text and asked for again, at one distance after the other.
struct DistanceProbe {
  std::vector<int32_t> text;                  // reaches to the largest distance
  int64_t told = 0;                           // where in it stands what is asked for
  std::vector<int32_t> question;              // stands in front of each ending; may be empty
  std::vector<std::vector<int32_t>> endings;  // what may follow
};

// The text so far as it is needed, the question and one of the endings, which begins `distance` ids behind `told`.
Request request_at(const DistanceProbe& probe, int64_t distance, size_t ending);

// Positions that a model must know to read all of them at this distance.
int64_t positions_at(const std::vector<DistanceProbe>& probes, int64_t distance);

// 64, 128, 256, ... up to `most`.
std::vector<int64_t> doubling_distances(int64_t most);

// Called with the tokens done and the tokens there are.
using OnTokens = std::function<void(int64_t done, int64_t total)>;

// The scores of all endings: [distance][probe][ending]. Distances ascend. Each text is read once, whatever the number of distances:
// a copy of its state answers at each.
std::vector<std::vector<std::vector<Score>>> score_at_distances(const Decoder& decoder, const std::vector<DistanceProbe>& probes,
                                                                const std::vector<int64_t>& distances, const OnTokens& on_tokens = {});

}  // namespace supra
