#include "supra/tokenizers/unicode.h"

#include <algorithm>
#include <array>
#include <utility>

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/unicode_tables.h"

namespace supra {

namespace {

// Reads the numbers of a table one after another.
class Numbers {
 public:
  explicit Numbers(const char* table) : at_(table) {}
  bool is_done() const { return *at_ == 0; }
  uint32_t next() {
    uint32_t n = 0;
    for (uint32_t weight = 1;; weight *= 46) {
      const uint32_t digit = static_cast<uint32_t>(*at_++) - 35;
      if (digit < 46) return n + digit * weight;
      // the digits after it count from 1, so that each number has only one form
      n += digit * weight;
    }
  }
  int32_t next_signed() {
    const auto n = static_cast<int32_t>(next());
    return n & 1 ? -(n / 2) - 1 : n / 2;
  }

 private:
  const char* at_;
};

// The tables are in static storage, filled on first use, so no engine's allocator owns them.
class Categories {
 public:
  Categories() {
    places_.fill(kUnassigned);
    size_t at = 0;
    for (Numbers numbers(kCategories); !numbers.is_done();) {
      const auto place = static_cast<uint8_t>(numbers.next());
      const size_t count = numbers.next();
      std::fill_n(places_.begin() + static_cast<std::ptrdiff_t>(at), count, place);
      at += count;
    }
  }
  uint32_t operator[](uint32_t c) const {
    if (c < places_.size()) return 1u << places_[c];
    // beyond the table: variation selectors and tags
    return 1u << (c >= 0xe0100 && c < 0xe01f0 ? kMark : c == 0xe0001 || (c >= 0xe0020 && c < 0xe0080) ? kFormat : kUnassigned);
  }

 private:
  static constexpr uint8_t kMark = 5, kFormat = 26, kUnassigned = 27;
  std::array<uint8_t, 0x323b0> places_;
};

// At most n values by key. Call sort() after adding them.
template <class Value, size_t n>
class Table {
 public:
  void add(uint64_t key, Value value) { rows_.at(size_++) = {key, value}; }
  void sort() {
    std::sort(rows_.begin(), rows_.begin() + size_, [](const Row& a, const Row& b) { return a.key < b.key; });
  }
  // null if there is none
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
  std::ptrdiff_t size_ = 0;
};

// Hangul syllables are computed (The Unicode Standard, section 3.12).
constexpr uint32_t kSyllables = 0xac00, kLeads = 0x1100, kVowels = 0x1161, kTrails = 0x11a7;
constexpr uint32_t kLeadCount = 19, kVowelCount = 21, kTrailCount = 28;

class Normaliser {
 public:
  Normaliser() {
    uint32_t at = 0;
    for (Numbers numbers(kCombining); !numbers.is_done();) {
      at += numbers.next();
      const uint32_t end = at + numbers.next(), value = numbers.next();
      for (; at < end; at++) combining_.add(at, static_cast<uint8_t>(value));
    }
    read_decompositions();
    composed_.sort();
  }

  std::vector<Rewritten> normalise(std::string_view text, NormalForm form) const {
    std::vector<Rewritten> all;
    while (!text.empty()) {
      const Character c = first_character(text);
      decompose(c.code_point, form.compatible, all);
      text.remove_prefix(c.size);
    }
    sort_marks(all);
    if (form.composed) compose(all);
    return all;
  }

 private:
  static uint64_t pair(uint32_t a, uint32_t b) { return uint64_t{a} << 32 | b; }

  struct Parts {
    uint16_t begin;
    uint8_t count;
    bool compatible;
  };

  void read_decompositions() {
    uint32_t code = 0;
    uint16_t end = 0;
    std::array<uint32_t, 18> last{};
    for (Numbers numbers(kDecompositions); !numbers.is_done();) {
      const uint32_t head = numbers.next(), kind = head % 3, count = head / 3 + 1, step = numbers.next();
      std::array<int32_t, 18> differences;
      for (uint32_t i = 0; i < count; i++) differences.at(i) = numbers.next_signed();
      for (uint32_t repeats = numbers.next() + 1; repeats > 0; repeats--) {
        code += step;
        parts_.add(code, {end, static_cast<uint8_t>(count), kind == 1});
        for (uint32_t i = 0; i < count; i++) texts_.at(end++) = last[i] += static_cast<uint32_t>(differences[i]);
        if (kind == 0) composed_.add(pair(last[0], last[1]), code);
      }
    }
  }

  int combining(uint32_t c) const {
    const uint8_t* found = c < 0x300 ? nullptr : combining_.find(c);
    return found ? *found : 0;
  }

  void decompose(uint32_t whole, bool compatible, std::vector<Rewritten>& out) const {
    std::vector<uint32_t> rest = {whole};
    int32_t change = 0;
    const auto put = [&](uint32_t c) { out.push_back({c, std::exchange(change, 1)}); };
    while (!rest.empty()) {
      const uint32_t c = rest.back();
      rest.pop_back();
      if (c >= kSyllables && c < kSyllables + kLeadCount * kVowelCount * kTrailCount) {
        const uint32_t i = c - kSyllables;
        put(kLeads + i / (kVowelCount * kTrailCount));
        put(kVowels + i / kTrailCount % kVowelCount);
        if (i % kTrailCount) put(kTrails + i % kTrailCount);
        continue;
      }
      const Parts* found = c < 0xa0 ? nullptr : parts_.find(c);
      if (!found || (found->compatible && !compatible))
        put(c);
      else
        for (uint32_t i = found->count; i-- > 0;) rest.push_back(texts_[found->begin + i]);
    }
  }

  void sort_marks(std::vector<Rewritten>& text) const {
    const auto is_mark = [&](const Rewritten& c) { return combining(c.code_point) != 0; };
    for (auto begin = text.begin(); begin != text.end();) {
      begin = std::find_if(begin, text.end(), is_mark);
      const auto end = std::find_if_not(begin, text.end(), is_mark);
      std::stable_sort(begin, end, [&](const Rewritten& a, const Rewritten& b) { return combining(a.code_point) < combining(b.code_point); });
      begin = end;
    }
  }

  // A character joins the last starter unless a character of its own class or higher is between them.
  void compose(std::vector<Rewritten>& all) const {
    size_t out = 0, starter = all.size();
    int last = 0;
    for (const Rewritten& c : all) {
      const int mark = combining(c.code_point);
      const bool blocked = out > starter + 1 && last >= mark;
      const uint32_t joined = starter < all.size() && !blocked ? join(all[starter].code_point, c.code_point) : 0;
      if (joined) {
        all[starter] = {joined, all[starter].change + c.change - 1};
        continue;
      }
      if (mark == 0) starter = out;
      last = mark;
      all[out++] = c;
    }
    all.resize(out);
  }

  // 0 if the two do not compose
  uint32_t join(uint32_t a, uint32_t b) const {
    if (b < 0x300) return 0;
    if (a >= kLeads && a < kLeads + kLeadCount && b >= kVowels && b < kVowels + kVowelCount)
      return kSyllables + ((a - kLeads) * kVowelCount + b - kVowels) * kTrailCount;
    if (a >= kSyllables && a < kSyllables + kLeadCount * kVowelCount * kTrailCount && (a - kSyllables) % kTrailCount == 0 &&
        b > kTrails && b < kTrails + kTrailCount)
      return a + b - kTrails;
    const uint32_t* found = composed_.find(pair(a, b));
    return found ? *found : 0;
  }

  Table<uint8_t, 1024> combining_;
  Table<Parts, 6144> parts_;
  std::array<uint32_t, 12288> texts_{};
  Table<uint32_t, 1024> composed_;
};

class LowerCase {
 public:
  LowerCase() {
    uint32_t first = 0;
    for (Numbers numbers(kLower); !numbers.is_done();) {
      first += numbers.next();
      const uint32_t head = numbers.next();
      runs_.at(size_++) = {first, head / 2, head % 2 + 1, static_cast<uint32_t>(numbers.next_signed())};
    }
  }
  uint32_t operator[](uint32_t c) const {
    const auto run = std::upper_bound(runs_.begin(), runs_.begin() + size_, c, [](uint32_t k, const Run& r) { return k < r.first; });
    if (run == runs_.begin()) return c;
    return run[-1].has(c) ? c + run[-1].by : c;
  }
  std::vector<uint32_t> capitals_of(uint32_t c) const {
    std::vector<uint32_t> all;
    for (const Run& run : runs_) {
      if (run.count > 0 && run.has(c - run.by)) all.push_back(c - run.by);
    }
    return all;
  }

 private:
  struct Run {
    uint32_t first, count, step, by;
    bool has(uint32_t c) const { return c >= first && (c - first) % step == 0 && (c - first) / step < count; }
  };
  std::array<Run, 256> runs_{};
  std::ptrdiff_t size_ = 0;
};

const LowerCase& lower() {
  static const LowerCase table;
  return table;
}

}  // namespace

uint32_t category_of(uint32_t c) {
  static const Categories categories;
  return categories[c];
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

uint32_t lower_case(uint32_t c) { return lower()[c]; }

std::vector<uint32_t> capitals_of(uint32_t c) { return lower().capitals_of(c); }

std::vector<Rewritten> normal_form(std::string_view text, NormalForm form) {
  static const Normaliser normaliser;
  return normaliser.normalise(text, form);
}

}  // namespace supra
