#include "supra/evaluation/choices.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "supra/inference/session.h"
#include "supra/tokenizers/unicode.h"

namespace supra {

using Ids = std::vector<int32_t>;
using Item = std::vector<Request>;

// of the items of a batch
constexpr size_t kStateBytes = size_t{1} << 28;

// The size of the text without white space at its end.
static size_t trimmed_size(std::string_view text) {
  size_t size = 0;
  for (size_t at = 0; at < text.size();) {
    const Character c = first_character(text.substr(at));
    at += c.size;
    if (!is_in(kSpaces, c.code_point)) size = at;
  }
  return size;
}

Request encode_request(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation,
                       bool bos) {
  const EncodeOptions options = {.parse_special = true};
  const std::string whole = std::string(context) + std::string(continuation);
  Ids ids = tokenizer.encode(whole, options);
  CHECK(!ids.empty(), "\"%s\" has no ids, it cannot be scored", whole.c_str());
  // a continuation may merge with the context's last ids: at least the last id is scored
  const size_t before = std::min(tokenizer.encode(context.substr(0, trimmed_size(context)), options).size(), ids.size() - 1);
  const int64_t scored = static_cast<int64_t>(ids.size() - before);
  if (bos || before == 0) {
    const int32_t mark = tokenizer.bos() >= 0 ? tokenizer.bos() : tokenizer.eos();
    CHECK(before > 0 || mark >= 0,
          "the context is empty, and the tokenizer has neither BOS nor EOS to use instead");
    if (mark >= 0) ids.insert(ids.begin(), mark);
  }
  return {ids, scored};
}

std::vector<Item> encode_task(const Tokenizer& tokenizer, const Task& task, bool bos) {
  std::vector<Item> items;
  for (const TaskItem& item : task.items) {
    Item& requests = items.emplace_back();
    for (const Candidate& c : item.candidates)
      requests.push_back(encode_request(tokenizer, task.prompt + c.context, c.continuation, bos));
  }
  return items;
}

int64_t cut_requests(std::vector<Item>& items, int64_t context) {
  int64_t cut = 0;
  for (Item& item : items) {
    for (Request& request : item) {
      CHECK(request.scored <= context, "a continuation of %ld ids: the model has only %ld positions",
            static_cast<long>(request.scored), static_cast<long>(context));
      // the last id is predicted, not read
      const int64_t over = static_cast<int64_t>(request.ids.size()) - context - 1;
      if (over <= 0) continue;
      request.ids.erase(request.ids.begin(), request.ids.begin() + over);
      cut++;
    }
  }
  return cut;
}

// The number of ids at the beginning that two requests share.
static int64_t shared_ids(const Request& a, const Request& b) {
  return std::mismatch(a.ids.begin(), a.ids.end(), b.ids.begin(), b.ids.end()).first - a.ids.begin();
}

// The number of ids at the beginning that all requests of an item share, except the id before the first scored one.
static int64_t shared_ids(const Item& item) {
  int64_t shared = std::numeric_limits<int64_t>::max();
  for (const Request& r : item) {
    shared = std::min({shared, shared_ids(item[0], r), static_cast<int64_t>(r.ids.size()) - r.scored - 1});
  }
  return shared;
}

// Reads the rest of each request after its row of `state`, and scores its end.
static std::vector<Score> score_endings(const Decoder& decoder, State state,
                                        const std::vector<const Request*>& requests) {
  constexpr int64_t kLogitRows = 256;
  const int64_t R = state.batch(), C = decoder.config().width, O = decoder.config().vocab;
  std::vector<int64_t> lengths;
  for (int64_t r = 0; r < R; r++)
    lengths.push_back(static_cast<int64_t>(requests[r]->ids.size()) - 1 - state.positions[r]);
  const int64_t T = *std::max_element(lengths.begin(), lengths.end());
  const Tensor tokens = Tensor::zeros({R, T}, Dtype::i32);
  for (int64_t r = 0; r < R; r++) {
    std::copy_n(requests[r]->ids.begin() + state.positions[r], lengths[r], tokens.data<int32_t>() + r * T);
  }
  const Tensor hidden = decoder.hidden(tokens, &state, lengths).value().view({R * T, C});

  // the rows of all requests that predict a scored id: only these need logits
  std::vector<Tensor> rows;
  Ids targets;
  std::vector<int64_t> request_of;
  for (int64_t r = 0; r < R; r++) {
    const int64_t scored = requests[r]->scored;
    const int64_t end = r * T + lengths[r];
    rows.push_back(hidden.rows(end - scored, end));
    targets.insert(targets.end(), requests[r]->ids.end() - scored, requests[r]->ids.end());
    request_of.insert(request_of.end(), scored, r);
  }
  const int64_t N = static_cast<int64_t>(targets.size());
  const Tensor ends = Tensor::empty({N, C}, hidden.dtype(), hidden.device()), wanted = Tensor::of(targets);
  int64_t filled = 0;
  for (const Tensor& some : rows) {
    ends.rows(filled, filled + some.dim(0)).copy_from(some);
    filled += some.dim(0);
  }
  std::vector<Score> scores(R);
  for (int64_t at = 0; at < N; at += kLogitRows) {
    const int64_t n = std::min(N - at, kLogitRows);
    const Tensor there = decoder.logits(Var(ends.rows(at, at + n))).value(),
                 nll = token_nll(there, wanted.rows(at, at + n)).to(Device::cpu),
                 logits = there.to(Device::cpu).to(Dtype::f32);
    for (int64_t i = 0; i < n; i++) {
      const float* row = logits.data<float>() + i * O;
      Score& score = scores[request_of[at + i]];
      score.loglik -= nll.data<float>()[i];
      score.greedy = score.greedy && std::max_element(row, row + O) - row == targets[at + i];
    }
  }
  return scores;
}

std::vector<Score> score_onwards(const Decoder& decoder, const State& state, const std::vector<int64_t>& row_of,
                                 const std::vector<const Request*>& requests, size_t state_bytes) {
  size_t longest = 0;
  for (const Request* request : requests) longest = std::max(longest, request->ids.size());
  const size_t at_once = std::max<size_t>(1, state_bytes / decoder.state_bytes(static_cast<int64_t>(longest)));
  std::vector<Score> scores;
  for (size_t at = 0; at < requests.size(); at += at_once) {
    const size_t end = std::min(requests.size(), at + at_once);
    const std::vector<int64_t> rows(row_of.begin() + at, row_of.begin() + end);
    State past = at_once > 1 ? state.select(rows) : decoder.branch(state, rows[0]);
    const std::vector<Score> some = score_endings(decoder, std::move(past), {requests.begin() + at, requests.begin() + end});
    scores.insert(scores.end(), some.begin(), some.end());
  }
  return scores;
}

// Scores items that begin with the ids that `head` has read.
static std::vector<std::vector<Score>> score_batch(const Decoder& decoder,
                                                   const std::vector<const Item*>& items, const State& head) {
  const int64_t seen = head.positions[0];
  Session contexts(decoder, static_cast<int64_t>(items.size()));
  contexts.set_state(head.select(std::vector<int64_t>(items.size(), 0)));
  std::vector<Ids> between;
  std::vector<const Request*> requests;
  std::vector<int64_t> row_of;
  for (const Item* item : items) {
    const Ids& ids = item->front().ids;
    for (const Request& request : *item) {
      requests.push_back(&request);
      row_of.push_back(static_cast<int64_t>(between.size()));
    }
    between.emplace_back(ids.begin() + seen, ids.begin() + shared_ids(*item));
  }
  contexts.feed(between);
  const std::vector<Score> scores = score_onwards(decoder, contexts.state(), row_of, requests);
  std::vector<std::vector<Score>> all(items.size());
  for (size_t r = 0; r < scores.size(); r++) all[row_of[r]].push_back(scores[r]);
  return all;
}

std::vector<std::vector<Score>> score_requests(const Decoder& decoder, const std::vector<Item>& items,
                                               const OnItems& on_items) {
  // enough rows for fast kernels, with little memory
  constexpr int64_t kBatchTokens = 2048;
  NoGrad off;
  std::vector<std::vector<Score>> scores(items.size());
  if (items.empty()) return scores;

  int64_t head = std::numeric_limits<int64_t>::max();
  std::vector<int64_t> longest(items.size());
  for (size_t i = 0; i < items.size(); i++) {
    head = std::min({head, shared_ids(items[i]), shared_ids(items[0][0], items[i][0])});
    for (const Request& request : items[i])
      longest[i] = std::max(longest[i], static_cast<int64_t>(request.ids.size()));
  }
  std::vector<size_t> order(items.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return longest[a] > longest[b]; });

  Session shared(decoder);
  shared.feed(std::span(items[0][0].ids).first(static_cast<size_t>(head)));
  for (size_t at = 0; at < order.size();) {
    std::vector<const Item*> batch;
    const size_t begin = at;
    const int64_t length = longest[order[at]];
    for (size_t rows = 0; at < order.size(); at++) {
      rows += items[order[at]].size();
      const bool full = static_cast<int64_t>(rows) * (length - head) > kBatchTokens ||
                        rows * decoder.state_bytes(length) > kStateBytes;
      if (full && at > begin) break;
      batch.push_back(&items[order[at]]);
    }
    std::vector<std::vector<Score>> some = score_batch(decoder, batch, shared.state());
    for (size_t i = begin; i < at; i++) scores[order[i]] = std::move(some[i - begin]);
    if (on_items) on_items(static_cast<int64_t>(at));
  }
  return scores;
}

Prediction predict(const Task& task, size_t item, const std::vector<Score>& scores) {
  if (task.kind == TaskKind::last_word) return scores[0].greedy ? Prediction{0, 0} : Prediction{-1, -1};
  const std::vector<Candidate>& candidates = task.items[item].candidates;
  Prediction best;
  const auto normalised = [&](int64_t i) {
    return scores[i].loglik / static_cast<double>(candidates[i].characters);
  };
  for (int64_t i = 1; i < static_cast<int64_t>(scores.size()); i++) {
    if (scores[i].loglik > scores[best.sum].loglik) best.sum = i;
    if (normalised(i) > normalised(best.normalised)) best.normalised = i;
  }
  return best;
}

Accuracy accuracy(int64_t right, int64_t n) {
  const double p = static_cast<double>(right) / static_cast<double>(n);
  return {p, std::sqrt(p * (1 - p) / static_cast<double>(n))};
}

}  // namespace supra
