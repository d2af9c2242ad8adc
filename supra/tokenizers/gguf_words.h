#pragma once
#include <string_view>
#include <vector>

namespace supra {

// How llama.cpp cuts a text into words for a vocabulary of the kind gpt2, by the name in tokenizer.ggml.pre. Where it
// writes an expression in a simpler way than the models' own tokenizers, theirs stands here.
struct GgufWords {
  std::string_view names;  // a space behind each
  std::vector<const char*> expressions;  // each cuts what the one before has left
  bool ignores_merges = false;
  bool adds_bos = false;  // where the file does not say
  bool characters = false;  // pieces are of characters with U+2581 for a space, not of bytes
};

// Null for a name that is not known.
const GgufWords* gguf_words(std::string_view name);

}  // namespace supra
