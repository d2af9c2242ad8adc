#include "supra/evaluation/distance_probe.h"

#include <algorithm>

#include "supra/inference/session.h"

namespace supra {

using Ids = std::vector<int32_t>;

// The number of ids of the text before a question at this distance.
static int64_t text_at(const Ask& ask, int64_t distance) { return ask.told + distance - static_cast<int64_t>(ask.question.size()); }

// The number of them that are read before the state is copied. The last id before an ending predicts it and is read with it.
static int64_t read_at(const Ask& ask, int64_t distance) { return text_at(ask, distance) - ask.question.empty(); }

Request request_at(const DistanceProbe& probe, const Ask& ask, int64_t distance, size_t ending) {
  const int64_t size = text_at(ask, distance);
  CHECK(size > ask.told && size <= static_cast<int64_t>(probe.text.size()), "probe: a distance of %ld, its text has %zu ids",
        static_cast<long>(distance), probe.text.size());
  Request request{{probe.text.begin(), probe.text.begin() + size}, static_cast<int64_t>(ask.endings[ending].size())};
  for (const Ids* part : {&ask.question, &ask.endings[ending]}) request.ids.insert(request.ids.end(), part->begin(), part->end());
  return request;
}

int64_t positions_at(const std::vector<DistanceProbe>& probes, int64_t distance) {
  size_t most = 0;
  for (const DistanceProbe& probe : probes) {
    for (const Ask& ask : probe.asks) {
      for (const Ids& ending : ask.endings) most = std::max(most, static_cast<size_t>(ask.told + distance) + ending.size());
    }
  }
  // the last id is predicted, not read
  return static_cast<int64_t>(most) - 1;
}

std::vector<int64_t> doubling_distances(int64_t most) {
  std::vector<int64_t> distances;
  for (int64_t distance = 64; distance <= most; distance *= 2) distances.push_back(distance);
  return distances;
}

namespace {

// A place of a text where a question is asked, after `read` ids.
struct Stop {
  int64_t read;
  size_t ask, distance;
};

std::vector<Stop> stops_of(const DistanceProbe& probe, const std::vector<int64_t>& distances) {
  std::vector<Stop> stops;
  for (size_t ask = 0; ask < probe.asks.size(); ask++) {
    for (size_t d = 0; d < distances.size(); d++) {
      if (text_at(probe.asks[ask], distances[d]) >= probe.asks[ask].ready)
        stops.push_back({read_at(probe.asks[ask], distances[d]), ask, d});
    }
  }
  std::sort(stops.begin(), stops.end(), [](const Stop& a, const Stop& b) { return a.read < b.read; });
  return stops;
}

std::vector<Score> answers(const Decoder& decoder, const Session& reading, const DistanceProbe& probe, const Ask& ask, int64_t distance) {
  Session asking(decoder, decoder.branch(reading.state(), 0));
  // the last id is read with each ending
  asking.feed(std::span(ask.question).first(ask.question.size() - !ask.question.empty()));
  std::vector<Request> requests;
  std::vector<const Request*> wanted;
  for (size_t e = 0; e < ask.endings.size(); e++) requests.push_back(request_at(probe, ask, distance, e));
  for (const Request& request : requests) wanted.push_back(&request);
  return score_onwards(decoder, asking.state(), std::vector<int64_t>(requests.size(), 0), wanted);
}

}  // namespace

void score_at_distances(const Decoder& decoder, const std::vector<DistanceProbe>& probes, const std::vector<int64_t>& distances,
                        const std::function<void(size_t probe, size_t ask, size_t distance, const std::vector<Score>&)>& on_scores,
                        const OnTokens& on_tokens) {
  CHECK(!distances.empty() && std::is_sorted(distances.begin(), distances.end()), "probe: distances must ascend");
  NoGrad off;
  int64_t done = 0, total = 0;
  for (const DistanceProbe& probe : probes) {
    const std::vector<Stop> stops = stops_of(probe, distances);
    if (!stops.empty()) total += stops.back().read;
  }
  for (size_t p = 0; p < probes.size(); p++) {
    Session reading(decoder);
    for (const Stop& stop : stops_of(probes[p], distances)) {
      const int64_t seen = reading.position(0), more = stop.read - seen;
      reading.feed(std::span(probes[p].text).subspan(static_cast<size_t>(seen), static_cast<size_t>(more)));
      on_scores(p, stop.ask, stop.distance, answers(decoder, reading, probes[p], probes[p].asks[stop.ask], distances[stop.distance]));
      done += more;
      if (on_tokens) on_tokens(done, total);
    }
  }
}

}  // namespace supra
