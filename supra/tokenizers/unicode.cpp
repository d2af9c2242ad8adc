#include "supra/tokenizers/unicode.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <vector>

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/unicode_tables.h"

namespace supra {

namespace {

// Calls f with each group of numbers of a table, the last of which may be decimal.
template <size_t n, class F>
void each_row(const char* table, int last_base, F f) {
  const char* end = table + strlen(table);
  while (table < end) {
    uint32_t row[n];
    for (size_t i = 0; i < n; i++) table = std::from_chars(table, end, row[i], i + 1 < n ? 16 : last_base).ptr + 1;
    f(row);
  }
}

// What is looked up is in static storage, made on first use: it belongs to nobody who may go.
class Classes {
 public:
  Classes() {
    const auto mark = [&](const char* table, CharacterClass value) {
      each_row<2>(table, 16, [&](const uint32_t* range) {
        classes_.at(range[1]) = value;
        std::fill(classes_.begin() + range[0], classes_.begin() + range[1] + 1, value);
      });
    };
    mark(kLetters, CharacterClass::letter);
    mark(kNumbers, CharacterClass::number);
    // the property White_Space
    mark("9 d 20 20 85 85 a0 a0 1680 1680 2000 200a 2028 2029 202f 202f 205f 205f 3000 3000 ", CharacterClass::space);
  }
  CharacterClass operator[](uint32_t c) const { return c < classes_.size() ? classes_[c] : CharacterClass::other; }

 private:
  // all letters and numbers lie below
  std::array<CharacterClass, 0x32400> classes_{};
};

// At most n values by key; to be sorted when all are there.
template <class Value, size_t n>
class Table {
 public:
  void add(uint64_t key, Value value) { rows_.at(size_++) = {key, value}; }
  void sort() {
    std::sort(rows_.begin(), rows_.begin() + size_, [](const Row& a, const Row& b) { return a.key < b.key; });
  }
  // null where there is none
  const Value* find(uint64_t key) const {
    const auto end = rows_.begin() + size_;
    const auto row = std::lower_bound(rows_.begin(), end, key, [](const Row& a, uint64_t k) { return a.key < k; });
    return row != end && row->key == key ? &row->value : nullptr;
  }

 private:
  struct Row {
    uint64_t key;
    Value value;
  };
  std::array<Row, n> rows_{};
  size_t size_ = 0;
};

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
constexpr uint32_t kSyllables = 0xac00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11a7;
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTrailCount = 28;

class Normaliser {
 public:
  Normaliser() {
    each_row<3>(kCombining, 10, [&](const uint32_t* row) {
      for (uint32_t c = row[0]; c <= row[1]; c++) combining_.add(c, static_cast<uint8_t>(row[2]));
    });
    each_row<2>(kSingletons, 16, [&](const uint32_t* row) { parts_.add(row[0], {row[1], 0}); });
    each_row<3>(kOnlyDecomposed, 16, [&](const uint32_t* row) { parts_.add(row[0], {row[1], row[2]}); });
    each_row<3>(kPairs, 16, [&](const uint32_t* row) {
      parts_.add(row[0], {row[1], row[2]});
      composed_.add(pair(row[1], row[2]), row[0]);
    });
    combining_.sort();
    parts_.sort();
    composed_.sort();
  }

  std::vector<uint32_t> compose(const std::vector<uint32_t>& text) const {
    std::vector<uint32_t> all;
    for (const uint32_t c : text) decompose(c, all);
    sort_marks(all);
    // a character joins the last starter unless one of its own class or higher stands between
    size_t out = 0, starter = all.size();
    int last = 0;
    for (size_t i = 0; i < all.size(); i++) {
      const int mark = combining(all[i]);
      const bool blocked = out > starter + 1 && last >= mark;
      const uint32_t joined = starter < all.size() && !blocked ? join(all[starter], all[i]) : 0;
      if (joined) {
        all[starter] = joined;
        continue;
      }
      if (mark == 0) starter = out;
      last = mark;
      all[out++] = all[i];
    }
    all.resize(out);
    return all;
  }

 private:
  static uint64_t pair(uint32_t a, uint32_t b) { return uint64_t{a} << 32 | b; }

  int combining(uint32_t c) const {
    const uint8_t* found = combining_.find(c);
    return found ? *found : 0;
  }

  void decompose(uint32_t c, std::vector<uint32_t>& out) const {
    if (c >= kSyllables && c < kSyllables + kLeadCount * kVowelCount * kTrailCount) {
      const uint32_t i = c - kSyllables;
      out.push_back(kLeads + i / (kVowelCount * kTrailCount));
      out.push_back(kVowels + i / kTrailCount % kVowelCount);
      if (i % kTrailCount) out.push_back(kTrails + i % kTrailCount);
      return;
    }
    // the first part may decompose further, the second does not
    std::vector<uint32_t> seconds;
    for (const Parts* found = parts_.find(c); found; found = parts_.find(c)) {
      c = found->first;
      if (found->second) seconds.push_back(found->second);
    }
    out.push_back(c);
    out.insert(out.end(), seconds.rbegin(), seconds.rend());
  }

  void sort_marks(std::vector<uint32_t>& text) const {
    const auto is_mark = [&](uint32_t c) { return combining(c) != 0; };
    for (auto begin = text.begin(); begin != text.end();) {
      begin = std::find_if(begin, text.end(), is_mark);
      const auto end = std::find_if_not(begin, text.end(), is_mark);
      std::stable_sort(begin, end, [&](uint32_t a, uint32_t b) { return combining(a) < combining(b); });
      begin = end;
    }
  }

  // 0 where the two are not composed
  uint32_t join(uint32_t a, uint32_t b) const {
    if (a >= kLeads && a < kLeads + kLeadCount && b >= kVowels && b < kVowels + kVowelCount)
      return kSyllables + ((a - kLeads) * kVowelCount + b - kVowels) * kTrailCount;
    if (a >= kSyllables && a < kSyllables + kLeadCount * kVowelCount * kTrailCount && (a - kSyllables) % kTrailCount == 0 &&
        b > kTrails && b < kTrails + kTrailCount)
      return a + b - kTrails;
    const uint32_t* found = composed_.find(pair(a, b));
    return found ? *found : 0;
  }

  struct Parts {
    uint32_t first, second;
  };
  Table<uint8_t, 1024> combining_;
  Table<Parts, 2304> parts_;
  Table<uint32_t, 1024> composed_;
};

}  // namespace

CharacterClass class_of(uint32_t c) {
  static const Classes classes;
  return classes[c];
}

Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  if (byte(0) < 0x80) return {byte(0), 1};
  const size_t size = utf8_length(text);
  if (size == 0) return {0xfffd, 1};
  uint32_t c = byte(0) & (0xffu >> (size + 1));
  for (size_t i = 1; i < size; i++) c = c << 6 | (byte(i) & 0x3f);
  return {c, size};
}

std::string nfc(std::string_view text) {
  // nothing below U+0300 is changed, and nothing there joins with what is below it
  const auto is_plain = [](char c) { return static_cast<uint8_t>(c) < 0xcc; };
  if (std::all_of(text.begin(), text.end(), is_plain)) return std::string(text);
  static const Normaliser normaliser;
  std::vector<uint32_t> characters;
  for (size_t at = 0; at < text.size();) {
    const Character c = first_character(text.substr(at));
    characters.push_back(c.code_point);
    at += c.size;
  }
  std::string normal;
  for (const uint32_t c : normaliser.compose(characters)) append_utf8(normal, c);
  return normal;
}

}  // namespace supra
