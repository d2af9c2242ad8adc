#pragma once
#include <functional>
#include <string>
#include <vector>

#include "supra/formats/parse/json.h"

namespace supra {

// The decoder of a tokenizer.json: a list of steps that turn pieces into a text. Bytes that are not UTF-8 stay as they are.
class PieceDecoder {
 public:
  struct Pieces {
    std::vector<std::string> texts;
    bool begins = true;  // no text stands before them
    bool ends = true;    // none follows
  };

  PieceDecoder() = default;
  explicit PieceDecoder(const Json* json);  // null: pieces stand with a space between. Throws Error for a step that is not known

  std::string text_of(Pieces pieces) const;

 private:
  std::vector<std::function<void(Pieces&)>> steps_;
};

}  // namespace supra
