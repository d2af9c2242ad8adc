#include "supra/tokenizers/normalizer.h"

#include <algorithm>

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/charsmap.h"
#include "supra/tokenizers/components.h"
#include "supra/tokenizers/regex.h"
#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

namespace {

using Changes = std::vector<Rewritten>;

std::vector<Character> characters_of(std::string_view text) {
  std::vector<Character> all;
  for (; !text.empty(); text.remove_prefix(all.back().size)) all.push_back(first_character(text));
  return all;
}

// Replaces the old characters by the new ones, after dropping the first `skipped`. A new character belongs to the old one that
// it replaces, or, if it was inserted, to the old one before it. Counts like Hugging Face's library, in odd cases too.
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

void replace(TextPart& part, const Regex& regex, std::string_view content, const std::string& where) {
  std::string out;
  size_t first = 0, at = 0;
  const auto put = [&](std::string_view text, size_t from_first) {
    CHECK(out.size() + text.size() <= INT32_MAX, "%s: the normalizer Replace makes more than 2 GiB of text (cut the text into documents)",
          where.c_str());
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
    // this capital becomes two characters
    if (c.code_point == 0x130) changes.push_back({0x307, 1});
  }
  return changes;
}

using Ranges = std::initializer_list<std::pair<uint32_t, uint32_t>>;

bool is_among(Ranges ranges, uint32_t c) {
  return std::any_of(ranges.begin(), ranges.end(), [=](const auto& range) { return c >= range.first && c <= range.second; });
}

// Whether a character belongs to the one before it (Unicode Standard Annex 29, for clusters of fewer than six bytes: the rules
// of SentencePiece apply to no longer ones).
bool is_extending(uint32_t c) {
  static constexpr Ranges kExtending = {{0xe33, 0xe33}, {0xeb3, 0xeb3}, {0x200c, 0x200d}, {0xff9e, 0xff9f}, {0x1f3fb, 0x1f3ff}};
  static constexpr Ranges kMarksAlone = {{0x102b, 0x102c}, {0x1038, 0x1038}, {0x1062, 0x1064}, {0x1067, 0x106d}, {0x1083, 0x1083},
                                         {0x1087, 0x108c}, {0x108f, 0x108f}, {0x109a, 0x109c}, {0x1a61, 0x1a61}, {0x1a63, 0x1a64},
                                         {0xaa7b, 0xaa7b}, {0xaa7d, 0xaa7d}, {0x11720, 0x11721}};
  return is_among(kExtending, c) || (is_in(kMarks, c) && !is_among(kMarksAlone, c));
}

// Characters that belong to the one after them.
bool prepends(uint32_t c) {
  return is_among({{0x600, 0x605}, {0x6dd, 0x6dd}, {0x70f, 0x70f}, {0x890, 0x891}, {0x8e2, 0x8e2}, {0xd4e, 0xd4e}, {0x110bd, 0x110bd},
                   {0x110cd, 0x110cd}}, c);
}

bool is_control(uint32_t c) {
  constexpr uint32_t controls = (categories_named("Cc") | categories_named("Zl") | categories_named("Zp") | categories_named("Cf")) & ~kJoiners;
  return is_in(controls, c) && !prepends(c);
}

// The bytes of the cluster at the beginning of a text.
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

// Like Hugging Face's library: looks for a rule for the whole cluster first, and uses the shortest rule that matches its
// beginning.
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
  filter(part, [](uint32_t c) { return !is_among({{1, 8}, {0xb, 0xb}, {0xe, 0x1f}, {0x7f, 0x7f}, {0x8f, 0x8f}, {0x9f, 0x9f}}, c); });
  Changes changes;
  for (const auto& [c, size] : characters_of(part.text)) {
    const bool blank = is_among({{9, 0xa}, {0xc, 0xd}, {0x1680, 0x1680}, {0x200b, 0x200f}, {0x2028, 0x2029}, {0x2581, 0x2581},
                                 {0xfeff, 0xfeff}, {0xfffd, 0xfffd}}, c);
    changes.push_back({blank ? ' ' : c, 0});
  }
  rewrite(part, changes);
}

Changes byte_level(std::string_view text) {
  Changes changes;
  for (const Character& c : characters_of(text)) {
    for (size_t i = 0; i < c.size; i++) {
      const Character written = first_character(byte_level_character(static_cast<uint8_t>(text[i])));
      changes.push_back({written.code_point, i > 0});
    }
    text.remove_prefix(c.size);
  }
  return changes;
}

std::function<void(TextPart&)> step_of(const Json& json) {
  const std::string& type = json.text("type");
  for (const auto& [name, form] :
       {std::pair("NFC", NormalForm{true, false}), {"NFD", {false, false}}, {"NFKC", {true, true}}, {"NFKD", {false, true}}}) {
    if (type != name) continue;
    return [form = form](TextPart& part) {
      const bool ascii = std::all_of(part.text.begin(), part.text.end(), [](char c) { return static_cast<uint8_t>(c) < 0x80; });
      if (!ascii) rewrite(part, normal_form(part.text, form));
    };
  }
  if (type == "Lowercase") return [](TextPart& part) { rewrite(part, lower_cases(part.text)); };
  if (type == "StripAccents") return [](TextPart& part) { filter(part, [](uint32_t c) { return !is_in(kMarks, c); }); };
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
    return [regex = read_pattern(json), content = json.text("content"), where = json.where()](TextPart& part) {
      replace(part, *regex, content, where);
    };
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

Normalizer::Normalizer(const Json* json) : StepList(json) {
  for (const Json* part : components(json, "normalizers")) add(step_of(*part));
}

}  // namespace supra
