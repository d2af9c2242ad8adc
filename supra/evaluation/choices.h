#pragma once
#include <functional>
#include <vector>

#include "supra/evaluation/tasks.h"
#include "supra/model.h"

namespace supra {

// Ids; the last `scored` of them are to be predicted.
struct Request {
  std::vector<int32_t> ids;
  int64_t scored = 0;
};

// A context and its continuation as lm-evaluation-harness reads them: white space at the end of the context
// moves to the continuation, both are encoded together, and the ids of the context are not scored. `bos` puts
// BOS in front. An empty context always becomes BOS, or EOS if there is no BOS, because the first id must be
// predicted from something.
Request encode_request(const Tokenizer& tokenizer, std::string_view context, std::string_view continuation,
                       bool bos);

// The requests of each item of a task, in order.
std::vector<std::vector<Request>> encode_task(const Tokenizer& tokenizer, const Task& task, bool bos);

// Cuts each request from the left to the `context` positions of a model. Returns the number of requests that
// were cut.
int64_t cut_requests(std::vector<std::vector<Request>>& items, int64_t context);

struct Score {
  double loglik = 0;   // log p(scored ids | ids before), nats
  bool greedy = true;  // each scored id was the most likely one
};

// Called with the number of finished items.
using OnItems = std::function<void(int64_t done)>;

// The scores of every request of every item. The prefix common to all requests is run once. The prefix common to
// an item's requests is run once per item, and its state is copied to each. Items run in batches of different
// lengths, the longest first.
std::vector<std::vector<Score>> score_requests(const Decoder& decoder,
                                               const std::vector<std::vector<Request>>& items,
                                               const OnItems& on_items = {});

// The scores of requests whose beginning a state has already read, at most up to the last id that is not scored: request r
// continues from row row_of[r]. Short contexts are copied and continued in one batch, as many as fit into state_bytes. A long
// context is shared by its requests, which run one after the other.
std::vector<Score> score_onwards(const Decoder& decoder, const State& state, const std::vector<int64_t>& row_of,
                                 const std::vector<const Request*>& requests, size_t state_bytes = size_t{1} << 27);

// The choice with the best score: by the sum, and by the sum divided by the characters of the bare choice. In a
// last-word task the one candidate is chosen if it is greedy, otherwise none: -1.
struct Prediction {
  int64_t sum = 0, normalised = 0;
};
Prediction predict(const Task& task, size_t item, const std::vector<Score>& scores);

// The fraction of n items that are right, and its standard error (binomial distribution).
struct Accuracy {
  double mean = 0, error = 0;
};
Accuracy accuracy(int64_t right, int64_t n);

}  // namespace supra
