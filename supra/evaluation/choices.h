#pragma once
#include <functional>
#include <vector>

#include "supra/evaluation/tasks.h"
#include "supra/model.h"

namespace supra {

// Ids of which the last `scored` are to be predicted.
struct Request {
  std::vector<int32_t> ids;
  int64_t scored = 0;
};

// A context and its continuation as lm-evaluation-harness reads them: white space at the end of the context
// moves to the continuation, both are encoded together, and what the context has as ids of its own is not
// scored. `bos` puts BOS in front; an empty context is BOS in any case, or EOS where there is none, for the
// first id must be predicted from something.
Request encode_request(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation,
                       bool bos);

// The requests of each item of a task, in order.
std::vector<std::vector<Request>> encode_task(const Tokenizer& tokenizer, const Task& task, bool bos);

// Drops what a model that knows `context` positions cannot see from the left of each request, and tells how
// many there were.
int64_t cut_requests(std::vector<std::vector<Request>>& items, int64_t context);

struct Score {
  double loglik = 0;   // log p(scored ids | those before), nats
  bool greedy = true;  // each of them was the most likely one
};

// Called with the number of items that are done.
using OnItems = std::function<void(int64_t done)>;

// The scores of every request of every item. The prefix common to all requests is run once. The prefix common to
// an item's requests is run once per item, and its state is copied to each. Items run in batches of different
// lengths, the longest first.
std::vector<std::vector<Score>> score_requests(const Decoder& decoder,
                                               const std::vector<std::vector<Request>>& items,
                                               const OnItems& on_items = {});

// The scores of requests of which a state has seen the beginning, all before the last id that is not scored or less: request r goes
// on from row row_of[r]. Short contexts are copied and read on at once, as many as state_bytes hold; a long one is shared by its
// requests, one after the other.
std::vector<Score> score_onwards(const Decoder& decoder, const State& state, const std::vector<int64_t>& row_of,
                                 const std::vector<const Request*>& requests, size_t state_bytes = size_t{1} << 27);

// What an item's scores choose: by their sum, and by their sum over the characters of the bare choice. A last
// word chooses its one candidate where it is greedy, otherwise none: -1.
struct Prediction {
  int64_t sum = 0, normalised = 0;
};
Prediction predict(const Task& task, size_t item, const std::vector<Score>& scores);

// A part of n that is right, and its standard error, of the binomial distribution.
struct Accuracy {
  double mean = 0, error = 0;
};
Accuracy accuracy(int64_t right, int64_t n);

}  // namespace supra
