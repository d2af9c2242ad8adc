#include "supra/tokenizers/pre_tokenizer.h"

#include <algorithm>

#include "supra/tokenizers/unicode.h"

namespace supra {

namespace {

using enum CharacterClass;

constexpr SplitPattern kGpt2 = {}, kLlama3 = {.modern = true, .most_digits = 3},
                       kQwen2 = {.modern = true, .most_digits = 1}, kSmolLm = {.digits_first = true};

// Bytes of the characters of a class from `at` on, `most` of them.
size_t run_of(CharacterClass wanted, std::string_view text, size_t at, int most = INT32_MAX) {
  const size_t begin = at;
  for (int n = 0; n < most && at < text.size(); n++) {
    const Character c = first_character(text.substr(at));
    if (class_of(c.code_point) != wanted) break;
    at += c.size;
  }
  return at - begin;
}

// 's 't 're 've 'm 'll 'd
size_t contraction(std::string_view text, bool any_case) {
  if (text[0] != '\'') return 0;
  // what a long s becomes in lower case
  if (any_case && text.substr(1).starts_with("\u017f")) return 3;
  for (const std::string_view ending : {"s", "t", "re", "ve", "m", "ll", "d"}) {
    const std::string_view given = text.substr(1, ending.size());
    const auto same = [&](char a, char b) {
      return a == b || (any_case && b >= 'A' && b <= 'Z' && a == b + 32);
    };
    if (given.size() == ending.size() && std::equal(ending.begin(), ending.end(), given.begin(), same))
      return 1 + ending.size();
  }
  return 0;
}

// \s*[\r\n]+ where line ends count, then \s+(?!\S), then \s+
size_t blanks(std::string_view text, bool line_ends) {
  const size_t all = run_of(space, text, 0);
  if (line_ends) {
    const size_t last = text.substr(0, all).find_last_of("\r\n");
    if (last != text.npos) return last + 1;
  }
  if (all == text.size()) return all;
  // the last blank belongs to what follows, unless it is alone
  size_t last = all - 1;
  while (last > 0 && (text[last] & 0xc0) == 0x80) last--;
  return last > 0 ? last : all;
}

}  // namespace

size_t SplitPattern::next_part(std::string_view text) const {
  if (!digits_first) return text.size();
  const Character first = first_character(text);
  size_t at = first.size;
  if (class_of(first.code_point) == number) return at;
  while (at < text.size()) {
    const Character c = first_character(text.substr(at));
    if (class_of(c.code_point) == number) break;
    at += c.size;
  }
  return at;
}

size_t SplitPattern::next_word(std::string_view text) const {
  if (const size_t size = contraction(text, modern)) return size;
  const Character c = first_character(text);
  const CharacterClass first = class_of(c.code_point);
  // what may stand in front of letters, numbers and symbols
  const size_t blank = text[0] == ' ' ? 1 : 0;
  const bool leads =
      modern ? first != letter && first != number && text[0] != '\r' && text[0] != '\n' : blank == 1;
  const size_t lead = leads ? c.size : 0;
  if (const size_t size = run_of(letter, text, lead)) return lead + size;
  if (most_digits > 0 && first == number) return run_of(number, text, 0, most_digits);
  if (most_digits == 0) {
    if (const size_t size = run_of(number, text, blank)) return blank + size;
  }
  if (const size_t size = run_of(other, text, blank)) {
    size_t end = blank + size;
    while (modern && end < text.size() && (text[end] == '\r' || text[end] == '\n')) end++;
    return end;
  }
  return blanks(text, modern);
}

static constexpr struct {
  std::string_view regex;
  const SplitPattern* pattern;
} kRegexes[] = {
    {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", &kGpt2},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     &kLlama3},
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     &kQwen2}};

const SplitPattern* pattern_of_regex(std::string_view regex) {
  for (const auto& row : kRegexes) {
    if (row.regex == regex) return row.pattern;
  }
  return nullptr;
}

std::string_view regex_of_pattern(const SplitPattern& pattern) {
  for (const auto& row : kRegexes) {
    if (*row.pattern == pattern) return row.regex;
  }
  return "";
}

const SplitPattern* pattern_of_name(std::string_view name) {
  static const struct {
    std::string_view name;
    const SplitPattern* pattern;
  } known[] = {{"gpt-2", &kGpt2},
               {"mpt", &kGpt2},
               {"olmo", &kGpt2},
               {"jais", &kGpt2},
               {"llama3", &kLlama3},
               {"llama-v3", &kLlama3},
               {"llama-bpe", &kLlama3},
               {"falcon3", &kLlama3},
               {"qwen2", &kQwen2},
               {"stablelm2", &kQwen2},
               {"deepseek-r1-qwen", &kQwen2},
               {"smollm", &kSmolLm},
               {"starcoder", &kSmolLm},
               {"refact", &kSmolLm},
               {"command-r", &kSmolLm}};
  for (const auto& row : known) {
    if (row.name == name) return row.pattern;
  }
  return nullptr;
}

}  // namespace supra
