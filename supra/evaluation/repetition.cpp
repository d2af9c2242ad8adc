#include "supra/evaluation/repetition.h"

#include <algorithm>

#include "tensor/random.h"

namespace supra {

// tokens of the text in front
constexpr int64_t kLead = 32;

std::vector<DistanceProbe> repeat_spans(const Tokenizer& tokenizer, std::span<const int32_t> text, const std::vector<int64_t>& distances,
                                        const RepetitionOptions& options) {
  CHECK(!distances.empty() && std::is_sorted(distances.begin(), distances.end()), "repetition: distances must ascend");
  CHECK(distances.front() >= options.span, "repetition: a distance of %ld tokens, a span has %ld (ask at a larger distance)",
        static_cast<long>(distances.front()), static_cast<long>(options.span));
  const int64_t needed = kLead + distances.back(), spare = static_cast<int64_t>(text.size()) - needed;
  CHECK(spare >= 0, "%s: has %zu tokens, repetition at a distance of %ld takes %ld of them (give a longer text, or smaller distances)",
        options.text_name.c_str(), text.size(), static_cast<long>(distances.back()), static_cast<long>(needed));
  std::vector<DistanceProbe> probes;
  for (int64_t item = 0; item < options.items; item++) {
    Philox random(options.seed, static_cast<uint64_t>(item));
    const auto part = text.subspan(random.below(static_cast<uint64_t>(spare) + 1), static_cast<size_t>(needed));
    const auto span = part.subspan(kLead, static_cast<size_t>(options.span));
    DistanceProbe& probe = probes.emplace_back();
    if (options.bos && tokenizer.bos() >= 0) probe.text.push_back(tokenizer.bos());
    probe.told = static_cast<int64_t>(probe.text.size()) + kLead;
    probe.text.insert(probe.text.end(), part.begin(), part.end());
    probe.endings = {{span.begin(), span.end()}};
  }
  return probes;
}

std::vector<Repetition> measure_repetition(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                                           const OnTokens& on_tokens) {
  std::vector<std::vector<Request>> firsts;
  for (const DistanceProbe& probe : probes) {
    const int64_t span = static_cast<int64_t>(probe.endings[0].size());
    firsts.push_back({{{probe.text.begin(), probe.text.begin() + probe.told + span}, span}});
  }
  const std::vector<std::vector<Score>> before = score_requests(decoder, firsts);
  const auto all = score_at_distances(decoder, probes, distances, on_tokens);
  std::vector<Repetition> rows;
  for (size_t d = 0; d < distances.size(); d++) {
    Repetition& row = rows.emplace_back();
    row.distance = distances[d];
    row.positions = positions_at(probes, distances[d]);
    for (size_t i = 0; i < probes.size(); i++) {
      const double span = static_cast<double>(probes[i].endings[0].size());
      const double first = -before[i][0].loglik / span, second = -all[d][i][0].loglik / span;
      row.first.add(first);
      row.second.add(second);
      row.gain.add(first - second);
    }
  }
  return rows;
}

}  // namespace supra
