#pragma once
#include "supra/tokenizers/components.h"

namespace supra {

struct PieceTexts {
  std::vector<std::string> texts;
  bool begins = true;  // no text is before them
  bool ends = true;    // no text is after them

  size_t size() const {
    size_t bytes = 0;
    for (const std::string& text : texts) bytes += text.size();
    return bytes;
  }
};

// The decoder of a tokenizer.json: turns pieces into a text. Keeps bytes that are not UTF-8.
class PieceDecoder : public StepList<PieceTexts> {
 public:
  explicit PieceDecoder(const Json* json);  // null: puts a space between pieces. Throws Error for an unknown step

  std::string text_of(PieceTexts pieces) const;

 private:
  void add_steps(const Json& json, bool& fused);
};

}  // namespace supra
