#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "supra/formats/parse/json.h"

namespace supra {

// A part of a text on its way: between two added tokens.
struct TextPart {
  std::string text;
  bool begins = false;     // it stands at the beginning of the whole text
  bool continues = false;  // the whole text goes on from another one: nothing is put in front
  // The number of bytes at its beginning that come from the first character of the whole text; Metaspace needs it.
  size_t first = 0;
};

// Throws Error if steps make a text much larger: a damaged file may repeat a step that doubles the text each time.
void check_growth(size_t before, size_t after);

// The normalizer of a tokenizer.json: a list of steps that change a text before it is cut into words.
class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(const Json* json);  // null: none. Throws Error for a step that is not known

  void apply(TextPart& part) const {
    const size_t before = part.text.size();
    for (const auto& step : steps_) {
      step(part);
      check_growth(before, part.text.size());
    }
  }
  bool is_none() const { return steps_.empty(); }

 private:
  std::vector<std::function<void(TextPart&)>> steps_;
};

// The components of a normalizer, pre-tokenizer, decoder or post-processor as a list; nested sequences are flattened.
std::vector<const Json*> components(const Json* json, const char* list);

[[noreturn]] void refuse_component(const Json& json, const std::string& what);

// The character that a byte of a text is in a byte-level vocabulary: printable ASCII and Latin 1 as they are, the
// others from U+0100 on. -1: the character stands for no byte.
std::string_view byte_level_character(uint8_t byte);
int byte_of_character(uint32_t code_point);

// The "pattern" of a component: {"String": ..} or {"Regex": ..}.
class Regex;
std::shared_ptr<const Regex> read_pattern(const Json& component);

}  // namespace supra
