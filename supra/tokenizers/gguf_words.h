#pragma once
#include <string_view>
#include <vector>

namespace supra {

// How llama.cpp cuts a text into words for a vocabulary of the kind gpt2, by the name in tokenizer.ggml.pre. If llama.cpp has a
// simpler expression than the models' own tokenizers, this has theirs.
struct GgufWords {
  std::string_view names;  // with a space between
  std::vector<const char*> expressions;  // each cuts the words of the one before
  bool ignores_merges = false;
  bool adds_bos = false;  // if the file does not say
  bool characters = false;  // pieces are of characters with U+2581 for a space, not of bytes
};

// Null for an unknown name.
const GgufWords* gguf_words(std::string_view name);

}  // namespace supra
