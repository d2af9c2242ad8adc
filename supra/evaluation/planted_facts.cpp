#include "supra/evaluation/planted_facts.h"

#include <algorithm>
#include <cmath>

#include "tensor/random.h"

namespace supra {

using Ids = std::vector<int32_t>;

// tokens of filler before the facts
constexpr int64_t kLead = 32;
constexpr const char* kThings[] = {"secret number", "ticket number", "door code", "room number"};
constexpr const char* kNames[] = {"Anna", "Ben",   "Clara", "David",  "Emma",  "Frank",  "Grace", "Henry",
                                  "Ivan", "Laura", "Nora",  "Oscar", "Paula", "Robert", "Sarah", "Thomas"};

static void append(Ids& ids, std::span<const int32_t> more) { ids.insert(ids.end(), more.begin(), more.end()); }

enum AskPlace : size_t { kOne, kAmong, kSpan };

// Different numbers with the same count of tokens.
static std::vector<Ids> draw_numbers(const Tokenizer& tokenizer, int64_t count, Philox& random) {
  constexpr int64_t kTries = 10'000;
  std::vector<Ids> numbers;
  for (int64_t tries = 0; static_cast<int64_t>(numbers.size()) < count; tries++) {
    CHECK(tries < kTries, "planted facts: the tokenizer has too few numbers of %zu tokens for %ld alternatives (ask for fewer)",
          numbers[0].size(), static_cast<long>(count));
    const Ids number = tokenizer.encode(" " + std::to_string(1000 + random.below(9000)), {.continues = true});
    const bool same_size = numbers.empty() || number.size() == numbers[0].size();
    if (same_size && std::find(numbers.begin(), numbers.end(), number) == numbers.end()) numbers.push_back(number);
  }
  return numbers;
}

// `count` different elements of a list.
template <size_t N>
static std::vector<std::string> draw_some(const char* const (&list)[N], int64_t count, Philox& random) {
  std::vector<std::string> drawn;
  while (static_cast<int64_t>(drawn.size()) < count) {
    const std::string one = list[random.below(N)];
    if (std::find(drawn.begin(), drawn.end(), one) == drawn.end()) drawn.push_back(one);
  }
  return drawn;
}

// A sentence that states a number.
struct Fact {
  Ids question, number, stop;
  int64_t size() const { return static_cast<int64_t>(question.size() + number.size() + stop.size()); }
};

static void tell(DistanceProbe& probe, const Fact& fact) {
  for (const Ids* part : {&fact.question, &fact.number, &fact.stop}) append(probe.text, *part);
}

// A sentence whose number is asked for.
static void tell(DistanceProbe& probe, const Fact& fact, Ask& ask) {
  ask.told = static_cast<int64_t>(probe.text.size() + fact.question.size());
  ask.question = fact.question;
  tell(probe, fact);
}

// The number of other facts after the one that is asked for: random, as far as they fit into the smallest distance.
static size_t draw_followers(const std::vector<Fact>& facts, int64_t room, Philox& random) {
  const size_t wanted = random.below(facts.size());
  for (size_t i = 1; i <= wanted; i++) {
    room -= facts[i].size();
    if (room < 0) return i - 1;
  }
  return wanted;
}

static DistanceProbe plant(const Tokenizer& tokenizer, std::span<const int32_t> filler, const std::vector<int64_t>& distances,
                           const FactOptions& options, Philox random) {
  const auto encode = [&](const std::string& text) { return tokenizer.encode(text, {.continues = true}); };
  const std::vector<std::string> things = draw_some(kThings, 2, random), names = draw_some(kNames, options.facts + 1, random);
  // the numbers of the facts, of the fact that is alone, and numbers that are not in the text
  const std::vector<Ids> numbers = draw_numbers(tokenizer, options.facts + options.alternatives, random);
  const Ids stop = encode("."), gap = encode("\n\n");
  const auto fact_of = [&](const std::string& thing, size_t i) {
    return Fact{encode("\n\nThe " + thing + " of " + names[i] + " is"), numbers[i], stop};
  };
  const size_t told = static_cast<size_t>(options.facts);
  std::vector<Fact> facts;
  for (size_t i = 0; i < told; i++) facts.push_back(fact_of(things[0], i));
  const Fact alone = fact_of(things[1], told);

  // from the number that is asked for to its question
  const int64_t smallest = facts[0].size() + alone.size() + static_cast<int64_t>(gap.size());
  CHECK(distances.back() >= smallest, "planted facts: a distance of %ld tokens is too short, the sentences alone have %ld (use a larger distance)",
        static_cast<long>(distances.back()), static_cast<long>(smallest));
  const size_t followers = draw_followers(facts, distances.front() - smallest, random);

  DistanceProbe probe;
  probe.asks.resize(3);
  if (options.bos && tokenizer.bos() >= 0) probe.text.push_back(tokenizer.bos());
  // the question about the span reads farthest
  const int64_t needed = kLead + distances.back() + options.span, spare = static_cast<int64_t>(filler.size()) - needed;
  CHECK(spare >= 0, "%s: has %zu tokens, facts at a distance of %ld take %ld of them (give a longer text, or smaller distances)",
        options.filler_name.c_str(), filler.size(), static_cast<long>(distances.back()), static_cast<long>(needed));
  const auto part = filler.subspan(random.below(static_cast<uint64_t>(spare) + 1), static_cast<size_t>(needed));
  append(probe.text, part.first(kLead));
  for (size_t i = followers + 1; i < told; i++) tell(probe, facts[i]);
  tell(probe, facts[0], probe.asks[kAmong]);
  for (size_t i = 1; i <= followers; i++) tell(probe, facts[i]);
  tell(probe, alone, probe.asks[kOne]);
  append(probe.text, gap);
  probe.asks[kOne].ready = probe.asks[kAmong].ready = probe.asks[kSpan].told = static_cast<int64_t>(probe.text.size());
  probe.asks[kSpan].ready = probe.asks[kSpan].told + options.span;
  append(probe.text, part.subspan(kLead));
  const auto span = part.subspan(kLead, static_cast<size_t>(options.span));
  probe.asks[kSpan].endings = {{span.begin(), span.end()}};
  const auto compete = [&](Ask& ask, size_t from, size_t told) {
    ask.endings.assign(numbers.begin() + static_cast<int64_t>(from), numbers.begin() + static_cast<int64_t>(from + told));
    const auto untold = numbers.begin() + options.facts + 1;
    ask.endings.insert(ask.endings.end(), untold, untold + options.alternatives - static_cast<int64_t>(told));
  };
  compete(probe.asks[kAmong], 0, told);
  compete(probe.asks[kOne], told, 1);
  return probe;
}

std::vector<DistanceProbe> plant_facts(const Tokenizer& tokenizer, std::span<const int32_t> filler, const std::vector<int64_t>& distances,
                                       const FactOptions& options) {
  const int64_t names = std::size(kNames);
  CHECK(!distances.empty() && std::is_sorted(distances.begin(), distances.end()), "planted facts: distances must ascend");
  CHECK(options.facts >= 1 && options.facts < names && options.facts <= options.alternatives,
        "planted facts: %ld facts in a text, but only %ld names and %ld alternatives", static_cast<long>(options.facts),
        static_cast<long>(names), static_cast<long>(options.alternatives));
  std::vector<DistanceProbe> probes;
  for (int64_t item = 0; item < options.items; item++)
    probes.push_back(plant(tokenizer, filler, distances, options, Philox(options.seed, static_cast<uint64_t>(item))));
  return probes;
}

static void add_answer(FactRecall& recall, const std::vector<Score>& scores) {
  // counts itself; an equally likely alternative ranks before it
  int64_t rank = 0;
  double sum = 0;
  for (const Score& other : scores) {
    rank += !(other.loglik < scores[0].loglik);
    sum += std::exp(other.loglik - scores[0].loglik);
  }
  recall.accuracy.add(rank == 1);
  recall.rank.add(static_cast<double>(rank));
  recall.probability.add(1 / sum);
  recall.greedy.add(scores[0].greedy);
}

// The scores of the spans at their first occurrence.
static std::vector<Score> score_first(const Decoder& decoder, const std::vector<DistanceProbe>& probes) {
  std::vector<std::vector<Request>> firsts;
  for (const DistanceProbe& probe : probes) {
    const Ask& ask = probe.asks[kSpan];
    const int64_t span = static_cast<int64_t>(ask.endings[0].size());
    firsts.push_back({{{probe.text.begin(), probe.text.begin() + ask.told + span}, span}});
  }
  std::vector<Score> scores;
  for (const std::vector<Score>& score : score_requests(decoder, firsts)) scores.push_back(score[0]);
  return scores;
}

std::vector<RecallAt> recall_facts(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                                   const OnTokens& on_tokens) {
  const std::vector<Score> firsts = score_first(decoder, probes);
  std::vector<RecallAt> rows;
  for (const int64_t distance : distances) rows.push_back({distance, positions_at(probes, distance), {}, {}, {}});
  const auto on_scores = [&](size_t probe, size_t ask, size_t distance, const std::vector<Score>& scores) {
    RecallAt& row = rows[distance];
    if (ask != kSpan) return add_answer(ask == kOne ? row.one : row.among, scores);
    const double span = static_cast<double>(probes[probe].asks[kSpan].endings[0].size());
    const double first = -firsts[probe].loglik / span, second = -scores[0].loglik / span;
    row.again.first.add(first);
    row.again.second.add(second);
    row.again.gain.add(first - second);
  };
  score_at_distances(decoder, probes, distances, on_scores, on_tokens);
  return rows;
}

}  // namespace supra
