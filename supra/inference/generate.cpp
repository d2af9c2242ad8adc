#include "supra/inference/generate.h"

#include <algorithm>
#include <chrono>

#include "supra/tokenizers/text_stream.h"

namespace supra {

// The position of the first stop text, or npos.
static size_t find_stop(const std::string& text, const std::vector<std::string>& stop) {
  size_t first = std::string::npos;
  for (const std::string& s : stop) {
    if (!s.empty()) first = std::min(first, text.find(s));
  }
  return first;
}

// The length of the text's end that may be the beginning of a stop text, and must not be shown yet.
static size_t held_back(const std::string& text, const std::vector<std::string>& stop) {
  size_t held = 0;
  for (const std::string& s : stop) {
    for (size_t n = std::min(s.size(), text.size()); n > held; n--) {
      if (text.compare(text.size() - n, n, s, 0, n) == 0) held = n;
    }
  }
  return held;
}

std::string beyond_context(const Config& config, int64_t position) {
  const int64_t limit = position_limit(config);
  if (limit == 0 || position <= limit) return "";
  return format("position %ld is beyond the model's context of %ld tokens: expect nonsense (a shorter text, or a model made by "
                "supra linearize, which has no such limit)",
                static_cast<long>(position), static_cast<long>(limit));
}

Generated generate(Session& session, const Tokenizer* tokenizer, Sampler& sampler, std::vector<int32_t>& history,
                   const GenerateOptions& options) {
  CHECK(session.logits_there().defined(), "generate: there is nothing to continue (give a prompt)");
  const auto start = std::chrono::steady_clock::now();
  Generated result;
  TextStream stream;
  size_t shown = 0;
  const auto show_up_to = [&](size_t end) {
    if (end <= shown) return;
    if (options.on_text) options.on_text(result.text.substr(shown, end - shown));
    shown = end;
  };

  while (static_cast<int64_t>(result.ids.size()) < options.tokens) {
    if (options.should_stop && options.should_stop()) break;
    const int32_t id = sampler.choose(session.logits_there(), history);
    const bool ends = tokenizer && (tokenizer->is_end(id) || std::count(options.ends.begin(), options.ends.end(), id) > 0);
    if (ends && options.stop_at_mark) break;
    session.advance(std::span(&id, 1));
    result.ids.push_back(id);
    history.push_back(id);
    if (!tokenizer || id >= tokenizer->size()) continue;
    // the new text continues the prompt, so its first space is not dropped
    result.text += stream.push(tokenizer->piece(id));
    const size_t stop = find_stop(result.text, options.stop);
    if (stop != std::string::npos) {
      result.text.resize(stop);
      break;
    }
    show_up_to(result.text.size() - held_back(result.text, options.stop));
  }
  result.text += stream.flush();
  show_up_to(result.text.size());
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace supra
