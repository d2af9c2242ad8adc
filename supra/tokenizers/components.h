#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/parse/json.h"

// What the components of a tokenizer.json (normalizer, pre-tokenizer, decoder, post-processor) have in common.

namespace supra {

// The parts of a component as a list. Nested sequences are flattened.
std::vector<const Json*> components(const Json* json, const char* list);

[[noreturn]] void refuse_component(const Json& json, const std::string& what);

// The "pattern" of a component: {"String": ..} or {"Regex": ..}.
class Regex;
std::shared_ptr<const Regex> read_pattern(const Json& component);

// The character that stands for a byte in a byte-level vocabulary: printable ASCII and Latin 1 stand for themselves, the other
// bytes are characters from U+0100 on. -1: the character stands for no byte.
std::string_view byte_level_character(uint8_t byte);
int byte_of_character(uint32_t code_point);

// Throws Error if steps make a text much larger: a damaged file may repeat a step that doubles the text.
void check_growth(const std::string& where, size_t before, size_t after);

// A component: a list of steps that change a text, whose size() is in bytes.
template <class Text>
class StepList {
 public:
  void apply(Text& text) const {
    const size_t before = text.size();
    for (const auto& step : steps_) {
      step(text);
      check_growth(where_, before, text.size());
    }
  }

 protected:
  explicit StepList(const Json* json) : where_(json ? json->where() : "tokenizer") {}
  void add(std::function<void(Text&)> step) { steps_.push_back(std::move(step)); }

 private:
  std::string where_;
  std::vector<std::function<void(Text&)>> steps_;
};

}  // namespace supra
