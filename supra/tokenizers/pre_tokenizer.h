#pragma once
#include "supra/tokenizers/components.h"

namespace supra {

// A text and the words that a pre-tokenizer has cut it into so far. Text between the words was removed.
struct WordList {
  struct Word {
    size_t begin, end;
    size_t first = 0;  // as in TextPart
  };
  std::string text;
  std::vector<Word> words;
  bool continues = false;  // the first word continues the text before

  size_t size() const { return text.size(); }
  std::string_view at(const Word& word) const { return std::string_view(text).substr(word.begin, word.end - word.begin); }
};

// The pre-tokenizer of a tokenizer.json: cuts a text into words, within which a model looks for its pieces. Each step cuts all
// words again, or rewrites them.
class PreTokenizer : public StepList<WordList> {
 public:
  explicit PreTokenizer(const Json* json);  // null: one word. Throws Error for an unknown step

 private:
  void add_steps(const Json& json);
  void add_byte_level(const Json& json);
  void add_metaspace(const Json& json);
};

// The expression with which GPT-2 and ByteLevel cut a text.
inline constexpr char kGpt2Words[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace supra
