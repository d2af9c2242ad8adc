#include "supra/inference/sampler.h"

#include <algorithm>
#include <cmath>

#include "tensor/parallel.h"

namespace supra {

Sampler::Sampler(const SamplerOptions& o) : options_(o), random_(o.seed, 2) {
  CHECK(o.temperature >= 0 && std::isfinite(o.temperature), "sampling: temperature %g, expected 0 or more", o.temperature);
  CHECK(o.top_k >= 0, "sampling: top-k %ld, expected 0 (off) or more", static_cast<long>(o.top_k));
  CHECK(o.top_p > 0 && o.top_p <= 1, "sampling: top-p %g, expected a number in (0, 1]", o.top_p);
  CHECK(o.min_p >= 0 && o.min_p <= 1, "sampling: min-p %g, expected a number in [0, 1]", o.min_p);
  CHECK(o.repeat_penalty > 0 && std::isfinite(static_cast<float>(o.repeat_penalty)), "sampling: repeat-penalty %g, expected a positive number", o.repeat_penalty);
}

// Returns a chosen token; throws Error if it is -1 - id, the sign of a logit that is NaN.
static int32_t checked(int32_t chosen) {
  CHECK(chosen >= 0, "sampling: the logit of token %d is NaN", -1 - chosen);
  return chosen;
}

std::vector<int32_t> Sampler::penalised(std::span<const int32_t> recent) const {
  if (options_.repeat_penalty == 1) return {};
  const size_t window = std::min(recent.size(), static_cast<size_t>(options_.repeat_window));
  std::vector<int32_t> ids(recent.end() - static_cast<int64_t>(window), recent.end());
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

int32_t Sampler::choose(std::span<const float> logits, std::span<const int32_t> recent) {
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); i++) {
    if (std::isnan(logits[i])) return checked(-1 - static_cast<int32_t>(i));
    candidates_[i] = {logits[i], static_cast<int32_t>(i)};
  }
  for (const int32_t id : penalised(recent)) candidates_[id].logit = options_.penalised(candidates_[id].logit);
  const auto likelier = [](const Candidate& a, const Candidate& b) { return a.logit > b.logit || (a.logit == b.logit && a.id < b.id); };
  if (options_.temperature == 0) return std::min_element(candidates_.begin(), candidates_.end(), likelier)->id;

  // the order matters only to the rules that remove unlikely tokens
  if (options_.cuts()) std::sort(candidates_.begin(), candidates_.end(), likelier);
  size_t count = candidates_.size();
  if (options_.top_k > 0) count = std::min(count, static_cast<size_t>(options_.top_k));
  const double best = std::min_element(candidates_.begin(), candidates_.end(), likelier)->logit;
  const uint64_t least = to_weight(options_.min_p);
  std::vector<uint64_t> weights;
  weights.reserve(count);
  uint64_t total = 0;
  for (size_t i = 0; i < count; i++) {
    const float logit = candidates_[i].logit;
    // the best may be infinite
    const uint64_t weight = to_weight(logit == best ? 1 : std::exp((logit - best) / options_.temperature));
    if (weight < least) break;
    weights.push_back(weight);
    total += weight;
  }
  // the first candidate at which the sum of weights reaches `goal`, and that sum
  const auto reaches = [&](uint64_t goal) {
    size_t i = 0;
    uint64_t sum = weights[0];
    while (sum < goal && i + 1 < weights.size()) sum += weights[++i];
    return std::pair(i, sum);
  };
  if (options_.top_p < 1) total = reaches(share_of(total, options_.top_p)).second;
  return candidates_[reaches(drawn_sum(total, draw())).first].id;
}

int32_t Sampler::choose(const Tensor& logits, std::span<const int32_t> recent) {
  const int64_t O = logits.dim(-1);
  if (logits.device() == Device::cpu) return choose({logits.data<float>(), static_cast<size_t>(O)}, recent);
  return checked(choose_on_gpu({this, 1}, logits.view({1, O}), O, penalised(recent))[0]);
}

std::vector<int32_t> Sampler::choose_rows(std::span<Sampler> samplers, const Tensor& logits, int64_t ids) {
  std::vector<int32_t> tokens(samplers.size());
  if (logits.device() == Device::cuda) {
    tokens = choose_on_gpu(samplers, logits, ids, {});
    std::for_each(tokens.begin(), tokens.end(), checked);
    return tokens;
  }
  parallel_for(logits.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; b++) {
      tokens[b] = samplers[b].choose({logits.rows(b, b + 1).data<float>(), static_cast<size_t>(ids)});
    }
  });
  return tokens;
}

}  // namespace supra
