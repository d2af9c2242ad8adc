#pragma once
#include "supra/tokenizers/components.h"

namespace supra {

// A part of a text, between two added tokens.
struct TextPart {
  std::string text;
  bool begins = false;     // it is at the beginning of the whole text
  bool continues = false;  // the whole text continues another one: nothing is put before it
  // How many bytes at its beginning come from the first character of the whole text; Metaspace needs this.
  size_t first = 0;

  size_t size() const { return text.size(); }
};

// The normalizer of a tokenizer.json: changes a text before it is cut into words.
class Normalizer : public StepList<TextPart> {
 public:
  explicit Normalizer(const Json* json);  // null: it does nothing. Throws Error for an unknown step
};

}  // namespace supra
