#include "supra/evaluation/planted_facts.h"

#include <algorithm>

#include "tensor/random.h"

namespace supra {

// tokens of filler in front
constexpr int64_t kLead = 32;
constexpr size_t kCandidates = 10;
constexpr const char* kThings[] = {"secret number", "ticket number", "door code", "room number"};
constexpr const char* kNames[] = {"Anna", "Ben",   "Clara", "David",  "Emma",  "Frank",  "Grace", "Henry",
                                  "Ivan", "Laura", "Nora",  "Oscar", "Paula", "Robert", "Sarah", "Thomas"};

std::vector<std::vector<Request>> plant_facts(const Tokenizer& tokenizer, std::span<const int32_t> filler, int64_t distance,
                                              const FactOptions& options) {
  const auto encode = [&](const std::string& text) { return tokenizer.encode(text, {.continues = true}); };
  const std::vector<int32_t> stop = encode(".\n\n");
  std::vector<std::vector<Request>> items;
  for (int64_t item = 0; item < options.items; item++) {
    Philox random(options.seed, static_cast<uint64_t>(item));
    const auto one_of = [&](const auto& words) { return std::string(words[random.below(std::size(words))]); };
    const std::string thing = one_of(kThings), name = one_of(kNames);
    const std::vector<int32_t> question = encode("\n\nThe " + thing + " of " + name + " is");
    std::vector<uint64_t> numbers;
    while (numbers.size() < kCandidates) {
      const uint64_t number = 1000 + random.below(9000);
      if (std::find(numbers.begin(), numbers.end(), number) == numbers.end()) numbers.push_back(number);
    }
    const std::vector<int32_t> told = encode(" " + std::to_string(numbers[0]));
    const int64_t between = distance - static_cast<int64_t>(told.size() + stop.size() + question.size());
    const int64_t spare = static_cast<int64_t>(filler.size()) - kLead - between;
    CHECK(between >= 0, "planted facts: a distance of %ld tokens, the sentence alone has %ld (ask at a larger distance)",
          static_cast<long>(distance), static_cast<long>(distance - between));
    CHECK(spare >= 0, "planted facts: the filler has %zu tokens, a distance of %ld takes %ld of them (give a longer text)", filler.size(),
          static_cast<long>(distance), static_cast<long>(kLead + between));

    std::vector<int32_t> ids;
    const auto append = [&](std::span<const int32_t> part) { ids.insert(ids.end(), part.begin(), part.end()); };
    if (options.bos && tokenizer.bos() >= 0) ids.push_back(tokenizer.bos());
    // a part of the way into the filler, so that distances begin at about the same place
    const auto text = filler.subspan(static_cast<size_t>(random.uniform() * static_cast<double>(spare)));
    append(text.first(kLead));
    append(question);
    append(told);
    append(stop);
    append(text.subspan(kLead, static_cast<size_t>(between)));
    append(question);
    std::vector<Request>& requests = items.emplace_back();
    for (const uint64_t number : numbers) {
      const std::vector<int32_t> answer = encode(" " + std::to_string(number));
      requests.push_back({ids, static_cast<int64_t>(answer.size())});
      requests.back().ids.insert(requests.back().ids.end(), answer.begin(), answer.end());
    }
  }
  return items;
}

FactRecall recall_facts(const Decoder& decoder, const std::vector<std::vector<Request>>& items, const OnItems& on_items) {
  int64_t right = 0, ranks = 0, greedy = 0;
  for (const std::vector<Score>& scores : score_requests(decoder, items, on_items)) {
    const auto as_likely = [&](const Score& other) { return !(other.loglik < scores[0].loglik); };
    // itself among them
    const int64_t rank = std::count_if(scores.begin(), scores.end(), as_likely);
    right += rank == 1;
    ranks += rank;
    greedy += scores[0].greedy;
  }
  const double n = static_cast<double>(items.size());
  return {accuracy(right, static_cast<int64_t>(items.size())), static_cast<double>(ranks) / n, static_cast<double>(greedy) / n};
}

}  // namespace supra
