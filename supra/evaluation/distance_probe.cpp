#include "supra/evaluation/distance_probe.h"

#include <algorithm>

#include "supra/inference/session.h"

namespace supra {

using Ids = std::vector<int32_t>;

// Ids of the text that are there at a distance.
static int64_t text_at(const DistanceProbe& probe, int64_t distance) {
  const int64_t size = probe.told + distance - static_cast<int64_t>(probe.question.size());
  CHECK(size > probe.told && size <= static_cast<int64_t>(probe.text.size()), "probe: a distance of %ld, its text has %zu ids",
        static_cast<long>(distance), probe.text.size());
  return size;
}

// Those of them that are read before a copy of the state answers. The last id in front of an ending predicts it and is read with it.
static int64_t read_at(const DistanceProbe& probe, int64_t distance) { return text_at(probe, distance) - probe.question.empty(); }

Request request_at(const DistanceProbe& probe, int64_t distance, size_t ending) {
  Request request{{probe.text.begin(), probe.text.begin() + text_at(probe, distance)}, static_cast<int64_t>(probe.endings[ending].size())};
  for (const Ids* part : {&probe.question, &probe.endings[ending]}) request.ids.insert(request.ids.end(), part->begin(), part->end());
  return request;
}

int64_t positions_at(const std::vector<DistanceProbe>& probes, int64_t distance) {
  size_t most = 0;
  for (const DistanceProbe& probe : probes) {
    for (const Ids& ending : probe.endings)
      most = std::max(most, static_cast<size_t>(probe.told + distance) + ending.size());
  }
  // the last id is predicted, not read
  return static_cast<int64_t>(most) - 1;
}

std::vector<int64_t> doubling_distances(int64_t most) {
  std::vector<int64_t> distances;
  for (int64_t distance = 64; distance <= most; distance *= 2) distances.push_back(distance);
  return distances;
}

// Some probes at once. Each row of the session reads on to the next distance; copies of it answer.
static std::vector<std::vector<std::vector<Score>>> score_batch(const Decoder& decoder, std::span<const DistanceProbe> probes,
                                                                const std::vector<int64_t>& distances, const std::function<void(int64_t)>& on_read) {
  Session reading(decoder, static_cast<int64_t>(probes.size()));
  std::vector<std::vector<std::vector<Score>>> all;
  for (const int64_t distance : distances) {
    std::vector<Ids> on, questions;
    std::vector<Request> requests;
    std::vector<int64_t> row_of;
    int64_t read = 0;
    for (size_t row = 0; row < probes.size(); row++) {
      const DistanceProbe& probe = probes[row];
      const int64_t seen = reading.position(static_cast<int64_t>(row)), end = read_at(probe, distance);
      on.emplace_back(probe.text.begin() + seen, probe.text.begin() + end);
      questions.emplace_back(probe.question.begin(), probe.question.end() - !probe.question.empty());
      read += end - seen;
      for (size_t e = 0; e < probe.endings.size(); e++) {
        requests.push_back(request_at(probe, distance, e));
        row_of.push_back(static_cast<int64_t>(row));
      }
    }
    reading.feed(on);
    Session asking(decoder, reading.state().clone());
    asking.feed(questions);
    std::vector<const Request*> wanted;
    for (const Request& request : requests) wanted.push_back(&request);
    const std::vector<Score> scores = score_onwards(decoder, asking.state(), row_of, wanted);
    std::vector<std::vector<Score>>& at = all.emplace_back(probes.size());
    for (size_t r = 0; r < scores.size(); r++) at[row_of[r]].push_back(scores[r]);
    on_read(read);
  }
  return all;
}

std::vector<std::vector<std::vector<Score>>> score_at_distances(const Decoder& decoder, const std::vector<DistanceProbe>& probes,
                                                                const std::vector<int64_t>& distances, const OnTokens& on_tokens) {
  // enough to fill the kernels, in little memory
  constexpr size_t kRows = 4, kStateBytes = size_t{1} << 28;
  CHECK(!distances.empty() && std::is_sorted(distances.begin(), distances.end()), "probe: distances must ascend");
  NoGrad off;
  const int64_t last = distances.back();
  const size_t bytes = decoder.state_bytes(positions_at(probes, last));
  const size_t rows = std::clamp<size_t>(kStateBytes / bytes, 1, kRows);
  int64_t done = 0, total = 0;
  for (const DistanceProbe& probe : probes) total += read_at(probe, last);

  std::vector<std::vector<std::vector<Score>>> all(distances.size());
  for (size_t at = 0; at < probes.size(); at += rows) {
    const auto on_read = [&](int64_t tokens) {
      done += tokens;
      if (on_tokens) on_tokens(done, total);
    };
    auto some = score_batch(decoder, std::span(probes).subspan(at, std::min(rows, probes.size() - at)), distances, on_read);
    for (size_t d = 0; d < distances.size(); d++) std::move(some[d].begin(), some[d].end(), std::back_inserter(all[d]));
  }
  return all;
}

}  // namespace supra
