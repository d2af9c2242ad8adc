#pragma once
#include <string_view>

namespace supra {

// How byte-level BPE cuts a text into words before it merges: the regular expressions that are in use, by
// hand.
struct SplitPattern {
  // A contraction (['](s|t|re|ve|m|ll|d)) in capitals too, any character that is no letter, number or line
  // end in front of letters instead of a space, line ends behind symbols, and blanks that end in a line end:
  // Llama 3, Qwen2.
  bool modern = false;
  int most_digits = 0;  // numbers in pieces of so many; 0: whole, with the space in front
  bool digits_first =
      false;  // every number character is a word of its own before anything else is looked at: SmolLM

  // Calls f with every word of a text.
  template <class F>
  void each_word(std::string_view text, F f) const {
    while (!text.empty()) {
      // what follows the part is out of sight
      const size_t part = next_part(text);
      for (std::string_view rest = text.substr(0, part); !rest.empty();) {
        const size_t size = next_word(rest);
        f(rest.substr(0, size));
        rest.remove_prefix(size);
      }
      text.remove_prefix(part);
    }
  }

  bool operator==(const SplitPattern&) const = default;

 private:
  // Bytes of the part, and of the word, that a text begins with, which is not empty.
  size_t next_part(std::string_view text) const;
  size_t next_word(std::string_view text) const;
};

// Each known expression as tokenizer.json spells it. Null for another one.
const SplitPattern* pattern_of_regex(std::string_view regex);
std::string_view regex_of_pattern(const SplitPattern& pattern);

// By the name in a GGUF's tokenizer.ggml.pre. Null for a name that is not known.
const SplitPattern* pattern_of_name(std::string_view name);

}  // namespace supra
