#pragma once
#include <functional>
#include <string>
#include <vector>

#include "supra/inference/sampler.h"
#include "supra/inference/session.h"

namespace supra {

struct GenerateOptions {
  int64_t tokens = 256;             // at most
  std::vector<std::string> stop;    // texts that end it; they are cut off
  bool stop_at_mark = true;         // BOS, what ends a text (Tokenizer::ends) and `ends` end it
  std::vector<int32_t> ends;        // further ids, such as the mark behind an answer; -1 is none
  std::function<void(const std::string&)> on_text;  // whole characters, as they come
  std::function<bool()> should_stop;
};

// What to tell once about a session that is beyond its model's position_limit(), where a rotary softmax model gets worse
// with every token; "" for all others.
std::string beyond_context(const Config& config, int64_t position);

struct Generated {
  std::vector<int32_t> ids;  // the new ones, without the mark that ended it, which the session has not read
  std::string text;
  double seconds = 0;
};

// Writes on from where a session of one sequence stands. `history`: the ids read so far, for the repeat penalty; the new
// ones are added to it. `tokenizer` may be null: then there is no text. The last token chosen is read by the session too,
// so that its state stands behind everything written.
Generated generate(Session& session, const Tokenizer* tokenizer, Sampler& sampler, std::vector<int32_t>& history,
                   const GenerateOptions& options);

}  // namespace supra
