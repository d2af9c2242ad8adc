#include "supra/tokenizers/components.h"

#include <algorithm>
#include <array>

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/regex.h"
#include "tensor/error.h"

namespace supra {

void refuse_component(const Json& json, const std::string& what) {
  fail("%s: %s is not supported, and ignoring it would give wrong ids", json.where().c_str(), what.c_str());
}

std::vector<const Json*> components(const Json* json, const char* list) {
  std::vector<const Json*> all, open;  // the next one is the last of `open`
  if (json) open.push_back(json);
  while (!open.empty()) {
    const Json& part = *open.back();
    open.pop_back();
    if (part.text("type") != "Sequence") {
      all.push_back(&part);
      continue;
    }
    const Json::Array& inner = part.at(list).as_array(list);
    for (size_t i = inner.size(); i-- > 0;) open.push_back(&inner[i]);
  }
  return all;
}

void check_growth(const std::string& where, size_t before, size_t after) {
  CHECK(after <= (size_t{1} << 20) + 256 * before,
        "%s: the steps from here on make %zu bytes of a text of %zu, more than 256 times as many (the file is damaged)", where.c_str(),
        after, before);
}

std::shared_ptr<const Regex> read_pattern(const Json& component) {
  const Json& pattern = component.at("pattern");
  if (pattern.find("Regex")) return std::make_shared<const Regex>(pattern.text("Regex"), pattern.where());
  return std::make_shared<const Regex>(Regex::of_literal(pattern.text("String")));
}

static bool is_printable(int byte) { return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad); }

std::string_view byte_level_character(uint8_t byte) {
  static const std::array<std::array<char, 3>, 256> characters = [] {
    std::array<std::array<char, 3>, 256> all{};
    uint32_t next = 256;
    for (int i = 0; i < 256; i++) {
      std::string text;
      append_utf8(text, is_printable(i) ? static_cast<uint32_t>(i) : next++);
      std::copy(text.begin(), text.end(), all[static_cast<size_t>(i)].begin());
    }
    return all;
  }();
  return characters[byte].data();
}

int byte_of_character(uint32_t c) {
  static const std::array<int, 256 + 68> bytes = [] {
    std::array<int, 256 + 68> all;
    all.fill(-1);
    size_t next = 256;
    for (int byte = 0; byte < 256; byte++) all[is_printable(byte) ? static_cast<size_t>(byte) : next++] = byte;
    return all;
  }();
  return c < bytes.size() ? bytes[c] : -1;
}

}  // namespace supra
