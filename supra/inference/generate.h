#pragma once
#include <functional>
#include <string>
#include <vector>

#include "supra/inference/sampler.h"
#include "supra/inference/session.h"

namespace supra {

struct GenerateOptions {
  int64_t tokens = 256;             // at most
  std::vector<std::string> stop;    // texts that end the generation; they are cut off
  bool stop_at_mark = true;         // stop at BOS, at the tokenizer's ends and at `ends`
  std::vector<int32_t> ends;        // further ids, such as the mark after an answer; -1 is ignored
  std::function<void(const std::string&)> on_text;  // whole characters, as they come
  std::function<bool()> should_stop;
};

// A warning if the session is beyond its model's position_limit(), where a rotary softmax model gets worse with every
// token; otherwise "".
std::string beyond_context(const Config& config, int64_t position);

struct Generated {
  std::vector<int32_t> ids;  // the new ids, without the mark at the end, which the session has not read
  std::string text;
  double seconds = 0;
};

// Continues a session of one sequence. `history`: the ids read so far, for the repeat penalty; the new ids are appended.
// `tokenizer` may be null: then there is no text. The session also reads the last chosen token, so its state includes
// everything that was written.
Generated generate(Session& session, const Tokenizer* tokenizer, Sampler& sampler, std::vector<int32_t>& history,
                   const GenerateOptions& options);

}  // namespace supra
