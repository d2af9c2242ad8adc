#include "supra/inference/sampler.h"

#include <algorithm>
#include <cmath>

#include "tensor/error.h"

namespace supra {

Sampler::Sampler(const SamplerOptions& o) : options_(o), random_(o.seed, 2) {
  CHECK(o.temperature >= 0 && std::isfinite(o.temperature), "sampling: temperature %g, expected 0 or more", o.temperature);
  CHECK(o.top_k >= 0, "sampling: top-k %ld, expected 0 (off) or more", static_cast<long>(o.top_k));
  CHECK(o.top_p > 0 && o.top_p <= 1, "sampling: top-p %g, expected a number in (0, 1]", o.top_p);
  CHECK(o.min_p >= 0 && o.min_p <= 1, "sampling: min-p %g, expected a number in [0, 1]", o.min_p);
  CHECK(o.repeat_penalty > 0, "sampling: repeat-penalty %g, expected a positive number", o.repeat_penalty);
}

int32_t Sampler::choose(std::span<const float> logits, std::span<const int32_t> recent) {
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); i++) {
    CHECK(!std::isnan(logits[i]), "sampling: the logit of token %zu is no number", i);
    candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  }
  if (options_.repeat_penalty != 1) {
    const size_t window = std::min(recent.size(), static_cast<size_t>(options_.repeat_window));
    std::vector<int32_t> ids(recent.end() - static_cast<int64_t>(window), recent.end());
    std::sort(ids.begin(), ids.end());
    ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
    const float penalty = static_cast<float>(options_.repeat_penalty);
    for (int32_t id : ids) {
      float& logit = candidates_[id].logit;
      logit = logit > 0 ? logit / penalty : logit * penalty;
    }
  }
  const auto likelier = [](const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); };
  if (options_.temperature == 0) return std::min_element(candidates_.begin(), candidates_.end(), likelier)->id;

  // the order matters only to what cuts the unlikely ones off
  const bool cuts = options_.top_k > 0 || options_.top_p < 1 || options_.min_p > 0;
  if (cuts) std::sort(candidates_.begin(), candidates_.end(), likelier);
  size_t count = candidates_.size();
  if (options_.top_k > 0) count = std::min(count, static_cast<size_t>(options_.top_k));
  const double best = std::min_element(candidates_.begin(), candidates_.end(), likelier)->logit;
  std::vector<double> weights(count);
  double total = 0;
  for (size_t i = 0; i < count; i++) {
    weights[i] = std::exp((candidates_[i].logit - best) / options_.temperature);
    if (weights[i] < options_.min_p) {
      count = i;
      break;
    }
    total += weights[i];
  }
  if (options_.top_p < 1) {
    double reached = 0;
    for (size_t i = 0; i < count; i++) {
      reached += weights[i];
      if (reached >= options_.top_p * total) {
        count = i + 1;
        total = reached;
        break;
      }
    }
  }
  double left = random_.uniform() * total;
  for (size_t i = 0; i + 1 < count; i++) {
    left -= weights[i];
    if (left < 0) return candidates_[i].id;
  }
  return candidates_[count - 1].id;
}

}  // namespace supra
