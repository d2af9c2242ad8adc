#include "tools/demo/held_out.h"

#include <algorithm>

#include "supra/tokenizers/corpus.h"

namespace supra {

// The tokens that repeat a word, and the place of its first occurrence.
static std::vector<RecallText::Span> token_spans(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, const Story& story) {
  std::vector<size_t> ends;  // of each token, in bytes
  for (size_t i = 0; i < ids.size(); i++) ends.push_back((i ? ends.back() : 0) + tokenizer.piece(ids[i], i <= 1).size());
  const auto token_at = [&](size_t byte) { return std::upper_bound(ends.begin(), ends.end(), byte) - ends.begin(); };
  std::vector<RecallText::Span> spans;
  for (const auto& [begin, end] : story.recall) {
    const size_t told = story.text.find(story.text.substr(begin, end - begin));
    spans.push_back({token_at(begin), token_at(end - 1) + 1, token_at(told)});
  }
  return spans;
}

HeldOut held_out_stories(const Tokenizer& tokenizer, int count, size_t context) {
  CHECK(context >= 200, "demo: the teacher's context of %zu tokens is too short for a story (give another --teacher)", context);
  StoryGrammar grammar(kHeldOutStories);
  HeldOut held_out;
  double bits = 0;
  while (static_cast<int>(held_out.sequences.size()) < count) {
    const Story story = grammar.next();
    std::vector<int32_t> ids = encode_document(tokenizer, story.text, true);
    if (ids.size() > context) continue;
    held_out.recall.push_back({ids, token_spans(tokenizer, ids, story)});
    held_out.sequences.push_back(std::move(ids));
    held_out.bytes += static_cast<int64_t>(story.text.size());
    bits += story.bits;
  }
  held_out.floor = bits / static_cast<double>(held_out.bytes);
  return held_out;
}

}  // namespace supra
