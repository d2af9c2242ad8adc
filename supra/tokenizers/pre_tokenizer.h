#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/normalizer.h"
#include "supra/formats/parse/json.h"

namespace supra {

// A text and the words that a pre-tokenizer has cut it into so far; text between the words was removed.
struct WordList {
  struct Word {
    size_t begin, end;
    size_t first = 0;  // as TextPart has it
  };
  std::string text;
  std::vector<Word> words;
  bool continues = false;  // the first word goes on from a text before

  std::string_view at(const Word& word) const { return std::string_view(text).substr(word.begin, word.end - word.begin); }
};

// The pre-tokenizer of a tokenizer.json: cuts a text into words. A model looks for its pieces within a word. Each step cuts
// all words again, or rewrites them.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  explicit PreTokenizer(const Json* json);  // null: none. Throws Error for a step that is not known

  void apply(WordList& words) const {
    const size_t before = words.text.size();
    for (const auto& step : steps_) {
      step(words);
      check_growth(before, words.text.size());
    }
  }

 private:
  std::vector<std::function<void(WordList&)>> steps_;
};

// The expression of GPT-2, which ByteLevel cuts with.
inline constexpr char kGpt2Words[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace supra
