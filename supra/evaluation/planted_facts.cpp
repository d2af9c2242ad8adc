#include "supra/evaluation/planted_facts.h"

#include <algorithm>
#include <cmath>

#include "tensor/random.h"

namespace supra {

using Ids = std::vector<int32_t>;

// tokens of filler in front
constexpr int64_t kLead = 32;
constexpr const char* kThings[] = {"secret number", "ticket number", "door code", "room number"};
constexpr const char* kNames[] = {"Anna", "Ben",   "Clara", "David",  "Emma",  "Frank",  "Grace", "Henry",
                                  "Ivan", "Laura", "Nora",  "Oscar", "Paula", "Robert", "Sarah", "Thomas"};

static void append(Ids& ids, std::span<const int32_t> more) { ids.insert(ids.end(), more.begin(), more.end()); }

// What is drawn for an item: whose numbers they are, and numbers of as many tokens each. The first is asked for, those of the other
// names follow, the rest was never told.
struct Draw {
  std::string thing;
  std::vector<std::string> names;
  std::vector<Ids> numbers;
};

static Draw draw_item(const Tokenizer& tokenizer, const FactOptions& options, Philox& random) {
  constexpr int64_t kTries = 10'000;
  Draw draw;
  draw.thing = kThings[random.below(std::size(kThings))];
  while (static_cast<int64_t>(draw.names.size()) < options.facts) {
    const std::string name = kNames[random.below(std::size(kNames))];
    if (std::find(draw.names.begin(), draw.names.end(), name) == draw.names.end()) draw.names.push_back(name);
  }
  for (int64_t tries = 0; static_cast<int64_t>(draw.numbers.size()) < options.alternatives; tries++) {
    CHECK(tries < kTries, "planted facts: the tokenizer has too few numbers of %zu tokens for %ld alternatives (ask for fewer)",
          draw.numbers[0].size(), static_cast<long>(options.alternatives));
    const Ids number = tokenizer.encode(" " + std::to_string(1000 + random.below(9000)), {.continues = true});
    const bool same_size = draw.numbers.empty() || number.size() == draw.numbers[0].size();
    if (same_size && std::find(draw.numbers.begin(), draw.numbers.end(), number) == draw.numbers.end()) draw.numbers.push_back(number);
  }
  return draw;
}

// How many of the other sentences follow the one that is asked for: any number, as far as the smallest distance has room for them.
static size_t draw_followers(const std::vector<Ids>& sentences, int64_t room, Philox& random) {
  const size_t wanted = random.below(sentences.size());
  for (size_t i = 1; i <= wanted; i++) {
    room -= static_cast<int64_t>(sentences[i].size());
    if (room < 0) return i - 1;
  }
  return wanted;
}

static DistanceProbe plant(const Tokenizer& tokenizer, std::span<const int32_t> filler, const std::vector<int64_t>& distances,
                           const FactOptions& options, Philox random) {
  const Draw draw = draw_item(tokenizer, options, random);
  const auto encode = [&](const std::string& text) { return tokenizer.encode(text, {.continues = true}); };
  const Ids stop = encode("."), gap = encode("\n\n");
  DistanceProbe probe;
  probe.endings = draw.numbers;
  std::vector<Ids> sentences;
  for (size_t i = 0; i < draw.names.size(); i++) {
    Ids& sentence = sentences.emplace_back(encode("\n\nThe " + draw.thing + " of " + draw.names[i] + " is"));
    if (i == 0) probe.question = sentence;
    append(sentence, draw.numbers[i]);
    append(sentence, stop);
  }
  const int64_t asking = static_cast<int64_t>(probe.question.size()), told = static_cast<int64_t>(sentences[0].size()) - asking;
  const int64_t room = distances.front() - asking - told - static_cast<int64_t>(gap.size());
  CHECK(room >= 0, "planted facts: a distance of %ld tokens, the sentence alone has %ld (ask at a larger distance)",
        static_cast<long>(distances.front()), static_cast<long>(distances.front() - room));
  const size_t followers = draw_followers(sentences, room, random);

  Ids& text = probe.text;
  if (options.bos && tokenizer.bos() >= 0) text.push_back(tokenizer.bos());
  const size_t filler_at = text.size();
  for (size_t i = followers + 1; i < sentences.size(); i++) append(text, sentences[i]);
  append(text, sentences[0]);
  probe.told = static_cast<int64_t>(text.size()) - told + kLead;
  for (size_t i = 1; i <= followers; i++) append(text, sentences[i]);
  append(text, gap);
  const int64_t behind = probe.told + distances.back() - asking - kLead - static_cast<int64_t>(text.size());
  const int64_t spare = static_cast<int64_t>(filler.size()) - kLead - behind;
  CHECK(spare >= 0, "%s: has %zu tokens, facts at a distance of %ld take %ld of them (give a longer text, or smaller distances)",
        options.filler_name.c_str(), filler.size(), static_cast<long>(distances.back()), static_cast<long>(kLead + behind));
  const auto part = filler.subspan(random.below(static_cast<uint64_t>(spare) + 1));
  append(text, part.subspan(kLead, static_cast<size_t>(behind)));
  text.insert(text.begin() + static_cast<int64_t>(filler_at), part.begin(), part.begin() + kLead);
  return probe;
}

std::vector<DistanceProbe> plant_facts(const Tokenizer& tokenizer, std::span<const int32_t> filler, const std::vector<int64_t>& distances,
                                       const FactOptions& options) {
  const int64_t names = std::size(kNames);
  CHECK(!distances.empty() && std::is_sorted(distances.begin(), distances.end()), "planted facts: distances must ascend");
  CHECK(options.facts >= 1 && options.facts <= std::min(names, options.alternatives),
        "planted facts: %ld are told at once, there are %ld names and %ld alternatives", static_cast<long>(options.facts),
        static_cast<long>(names), static_cast<long>(options.alternatives));
  std::vector<DistanceProbe> probes;
  for (int64_t item = 0; item < options.items; item++)
    probes.push_back(plant(tokenizer, filler, distances, options, Philox(options.seed, static_cast<uint64_t>(item))));
  return probes;
}

std::vector<FactRecall> recall_facts(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                                     const OnTokens& on_tokens) {
  const auto all = score_at_distances(decoder, probes, distances, on_tokens);
  std::vector<FactRecall> rows;
  for (size_t d = 0; d < distances.size(); d++) {
    FactRecall& row = rows.emplace_back();
    row.distance = distances[d];
    row.positions = positions_at(probes, distances[d]);
    for (const std::vector<Score>& scores : all[d]) {
      // itself among them; an alternative that is just as likely comes before it
      int64_t rank = 0;
      double sum = 0;
      for (const Score& other : scores) {
        rank += !(other.loglik < scores[0].loglik);
        sum += std::exp(other.loglik - scores[0].loglik);
      }
      row.accuracy.add(rank == 1);
      row.rank.add(static_cast<double>(rank));
      row.probability.add(1 / sum);
      row.greedy.add(scores[0].greedy);
    }
  }
  return rows;
}

}  // namespace supra
