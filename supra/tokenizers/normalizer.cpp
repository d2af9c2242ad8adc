#include "supra/tokenizers/normalizer.h"

#include <algorithm>
#include <array>

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/charsmap.h"
#include "supra/tokenizers/regex.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

void refuse_component(const Json& json, const std::string& what) {
  fail("%s: %s is not supported, and ignoring it would give wrong ids", json.where().c_str(), what.c_str());
}

std::vector<const Json*> components(const Json* json, const char* list) {
  std::vector<const Json*> all, open;  // open: the next one last
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

void check_growth(size_t before, size_t after) {
  CHECK(after <= (size_t{1} << 20) + 256 * before, "tokenizer: its steps make %zu bytes of a text of %zu, 256 times is the most (tokenizer.json is damaged)",
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

namespace {

using Changes = std::vector<Rewritten>;

std::vector<Character> characters_of(std::string_view text) {
  std::vector<Character> all;
  for (; !text.empty(); text.remove_prefix(all.back().size)) all.push_back(first_character(text));
  return all;
}

// Puts the new characters in place of the old ones, of which `skipped` go in front. Each stems from the one that it
// replaces, or, where it was put in, from the one before: it is counted as the library counts, odd cases too.
void rewrite(TextPart& part, const Changes& changes, size_t skipped = 0) {
  std::string out;
  out.reserve(part.text.size());
  size_t first = 0, at = 0;
  const auto skip = [&] {
    if (at < part.text.size()) at += first_character(std::string_view(part.text).substr(at)).size;
  };
  for (; skipped > 0; skipped--) skip();
  for (const auto& [c, change] : changes) {
    const bool from_first = change <= 0 ? at < part.first : at == 0 ? part.begins : at - 1 < part.first;
    const bool all_before = first == out.size();
    append_utf8(out, c);
    if (from_first && all_before) first = out.size();
    for (int32_t n = change; n <= 0; n++) skip();
  }
  part.text = std::move(out);
  part.first = first;
}

// Removes the characters that are not kept.
template <class F>
void filter(TextPart& part, F keeps) {
  Changes changes;
  int32_t removed = 0;
  size_t skipped = 0;
  for (const Character& c : characters_of(part.text)) {
    if (!keeps(c.code_point)) {
      removed++;
      continue;
    }
    if (changes.empty())
      skipped = static_cast<size_t>(removed);
    else
      changes.back().change = -removed;
    removed = 0;
    changes.push_back({c.code_point, 0});
  }
  if (!changes.empty()) changes.back().change = -removed;
  rewrite(part, changes, skipped);
}

void strip(TextPart& part, bool left, bool right) {
  const std::vector<Character> all = characters_of(part.text);
  const auto is_space = [](const Character& c) { return is_in(kSpaces, c.code_point); };
  const auto begin = left ? std::find_if_not(all.begin(), all.end(), is_space) : all.begin();
  const auto end = right ? std::find_if_not(all.rbegin(), all.rend(), is_space).base() : all.end();
  Changes changes;
  for (auto c = begin; c < end; ++c) changes.push_back({c->code_point, 0});
  rewrite(part, changes, static_cast<size_t>(begin - all.begin()));
}

void replace(TextPart& part, const Regex& regex, std::string_view content) {
  std::string out;
  size_t first = 0, at = 0;
  const auto put = [&](std::string_view text, size_t from_first) {
    CHECK(out.size() + text.size() <= INT32_MAX, "tokenizer: the normalizer Replace makes 2 GiB of text (cut it into documents)");
    if (first == out.size()) first += from_first;
    out += text;
  };
  regex.each_part(part.text, [&](std::string_view text, bool matches) {
    const size_t end = at + text.size();
    if (!matches)
      put(text, std::min(end, std::max(part.first, at)) - at);
    else
      put(content, (end == 0 ? part.begins : end - 1 < part.first) ? content.size() : 0);
    at = end;
  });
  part.text = std::move(out);
  part.first = first;
}

Changes lower_cases(std::string_view text) {
  Changes changes;
  for (const Character& c : characters_of(text)) {
    changes.push_back({lower_case(c.code_point), 0});
    // the one capital that becomes two characters
    if (c.code_point == 0x130) changes.push_back({0x307, 1});
  }
  return changes;
}

// Whether a character belongs to the one before it (Unicode Standard Annex 29, as far as clusters of fewer than six bytes
// go, which is all that the rules of SentencePiece are asked about).
bool is_extending(uint32_t c) {
  if (c == 0xe33 || c == 0xeb3 || c == 0x200c || c == 0x200d || (c >= 0x1f3fb && c <= 0x1f3ff) || (c >= 0xff9e && c <= 0xff9f)) return true;
  const bool alone = c == 0x102b || c == 0x102c || c == 0x1038 || (c >= 0x1062 && c <= 0x1064) ||
                     (c >= 0x1067 && c <= 0x106d) || c == 0x1083 || (c >= 0x1087 && c <= 0x108c) || c == 0x108f ||
                     (c >= 0x109a && c <= 0x109c) || c == 0x1a61 || c == 0x1a63 || c == 0x1a64 || c == 0xaa7b ||
                     c == 0xaa7d || c == 0x11720 || c == 0x11721;
  return !alone && is_in(kMarks, c);
}

// Characters that are read with the one behind them.
bool prepends(uint32_t c) {
  return (c >= 0x600 && c <= 0x605) || c == 0x6dd || c == 0x70f || c == 0x890 || c == 0x891 || c == 0x8e2 || c == 0xd4e ||
         c == 0x110bd || c == 0x110cd;
}

bool is_control(uint32_t c) {
  constexpr uint32_t controls = (categories_named("Cc") | categories_named("Zl") | categories_named("Zp") | categories_named("Cf")) & ~kJoiners;
  return is_in(controls, c) && !prepends(c);
}

// Bytes of the cluster that a text begins with.
size_t cluster_size(std::string_view text) {
  if (text.starts_with("\r\n")) return 2;
  Character c = first_character(text);
  size_t size = c.size;
  while (prepends(c.code_point) && size < text.size()) {
    const Character next = first_character(text.substr(size));
    if (is_control(next.code_point)) return size;
    c = next;
    size += c.size;
  }
  if (is_control(c.code_point)) return size;
  while (size < text.size()) {
    const Character next = first_character(text.substr(size));
    if (!is_extending(next.code_point)) break;
    size += next.size;
  }
  return size;
}

// The library asks SentencePiece's rules for a whole cluster first, and takes the shortest one that it begins with.
Changes apply_charsmap(const CharsMap& map, std::string_view text) {
  Changes changes;
  const auto put = [&](std::string_view old, std::string_view now) {
    const size_t begin = changes.size();
    for (const Character& c : characters_of(now)) changes.push_back({c.code_point, 0});
    const auto before = static_cast<int32_t>(characters_of(old).size()), after = static_cast<int32_t>(changes.size() - begin);
    for (int32_t i = before; i < after; i++) changes[changes.size() - 1 - static_cast<size_t>(i - before)].change = 1;
    if (after < before && !changes.empty()) changes.back().change += after - before;
  };
  while (!text.empty()) {
    const std::string_view cluster = text.substr(0, cluster_size(text));
    text.remove_prefix(cluster.size());
    const CharsMap::Rule whole = cluster.size() < 6 ? map.match(cluster, true) : CharsMap::Rule();
    if (whole.size > 0) {
      put(cluster, whole.text);
      continue;
    }
    for (size_t at = 0; at < cluster.size();) {
      const Character c = first_character(cluster.substr(at));
      const std::string_view part = cluster.substr(at, c.size);
      if (const CharsMap::Rule rule = map.match(part, true); rule.size > 0)
        put(part, rule.text);
      else
        changes.push_back({c.code_point, 0});
      at += c.size;
    }
  }
  return changes;
}

void nmt(TextPart& part) {
  filter(part, [](uint32_t c) {
    return !((c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f);
  });
  Changes changes;
  for (const auto& [c, size] : characters_of(part.text)) {
    const bool blank = c == 9 || c == 0xa || c == 0xc || c == 0xd || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 || c == 0x2029 ||
                       c == 0x2581 || c == 0xfeff || c == 0xfffd;
    changes.push_back({blank ? ' ' : c, 0});
  }
  rewrite(part, changes);
}

Changes byte_level(std::string_view text) {
  Changes changes;
  for (const Character& c : characters_of(text)) {
    for (size_t i = 0; i < c.size; i++) changes.push_back({first_character(byte_level_character(static_cast<uint8_t>(text[i]))).code_point, i > 0});
    text.remove_prefix(c.size);
  }
  return changes;
}

std::function<void(TextPart&)> step_of(const Json& json) {
  const std::string& type = json.text("type");
  for (const auto& [name, form] : {std::pair("NFC", NormalForm{true, false}), {"NFD", {false, false}}, {"NFKC", {true, true}}, {"NFKD", {false, true}}}) {
    if (type != name) continue;
    return [form = form](TextPart& part) {
      // ASCII stays as it is
      if (!std::all_of(part.text.begin(), part.text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; })) rewrite(part, normal_form(part.text, form));
    };
  }
  if (type == "Lowercase") return [](TextPart& part) { rewrite(part, lower_cases(part.text)); };
  if (type == "StripAccents") {
    return [](TextPart& part) { filter(part, [](uint32_t c) { return !is_in(kMarks, c); }); };
  }
  if (type == "Strip") {
    return [left = json.flag("strip_left", true), right = json.flag("strip_right", true)](TextPart& part) { strip(part, left, right); };
  }
  if (type == "Prepend") {
    return [text = json.text("prepend")](TextPart& part) {
      if (part.text.empty() || part.continues) return;
      part.text.insert(0, text);
      if (part.first > 0) part.first += text.size();
    };
  }
  if (type == "Replace") {
    return [regex = read_pattern(json), content = json.text("content")](TextPart& part) { replace(part, *regex, content); };
  }
  if (type == "Precompiled") {
    const std::string& charsmap = json.text("precompiled_charsmap");
    if (charsmap.empty()) return [](TextPart&) {};
    const auto map = std::make_shared<const CharsMap>(bytes_of_base64(charsmap, json.where()), json.where());
    return [map](TextPart& part) { rewrite(part, apply_charsmap(*map, part.text)); };
  }
  if (type == "Nmt") return nmt;
  if (type == "ByteLevel") return [](TextPart& part) { rewrite(part, byte_level(part.text)); };
  refuse_component(json, "the normalizer " + type);
}

}  // namespace

Normalizer::Normalizer(const Json* json) {
  for (const Json* part : components(json, "normalizers")) steps_.push_back(step_of(*part));
}

}  // namespace supra
