#pragma once
#include <bitset>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

// Byte-pair encoding for all kinds of tokenizers. It merges the adjacent symbols with the best score, the leftmost of equals,
// until none can be merged. SentencePiece and llama2.c merge any two symbols that make a piece; GPT-2's kind merges the pairs
// of a list, in the order of the list.

namespace supra {

// The pieces that merging may make. The texts must outlive it.
class PieceTable {
 public:
  // Adds a piece that any two symbols may make. False if the text is already there.
  bool add(std::string_view text, int32_t id, float score) { return add(text, {id, score, kAny, -1}); }
  // Adds a piece that only merges make.
  bool add(std::string_view text, int32_t id) { return add(text, {id, 0, kNone, -1}); }
  // Adds a merge of the first `left` bytes of `text` with the rest. `text` must be a piece already.
  void add_merge(std::string_view text, size_t left, float score);

  // -1 if the text is not a piece.
  int32_t find(std::string_view text) const;
  // The score of merging the first `left` bytes with the rest; null if they may not be merged.
  const float* find_merge(std::string_view text, size_t left) const;

  // Whether the two bytes are neighbours in any piece. If not, no merge crosses this place, so a text splits into runs, mostly
  // words, that are merged one by one.
  bool may_join(char left, char right) const { return joins_[index(left, right)]; }

 private:
  static size_t index(char left, char right) {
    return size_t{static_cast<uint8_t>(left)} << 8 | static_cast<uint8_t>(right);
  }
  static constexpr uint32_t kAny = 0, kNone = UINT32_MAX;
  struct Entry {
    int32_t id;
    float score;
    uint32_t left;  // bytes of the left part
    int32_t next;   // index in more_ of another way to make the piece; -1: none
  };
  bool add(std::string_view text, Entry entry);

  std::unordered_map<std::string_view, Entry> entries_;
  std::vector<Entry> more_;
  std::bitset<65536> joins_;
};

// Takes the symbols of a text from left to right and emits the pieces in the same order. Time n log n and memory n in the
// longest run.
class PairMerger {
 public:
  // `emit` gets a symbol that cannot be merged further, and its id; -1 if it is not a piece.
  using Emit = std::function<void(std::string_view symbol, int32_t id)>;
  PairMerger(const PieceTable& table, Emit emit) : table_(table), emit_(std::move(emit)) {}

  // Throws Error if a run is longer than 2 GiB.
  void add(std::string_view symbol);

  // Merges and emits the symbols so far: at the end of the text, or at a place that no merge may cross.
  void finish();

 private:
  struct Symbol {
    uint32_t begin, size;    // in run_; size 0: merged into its left neighbour
    int32_t previous, next;  // -1 at the ends
  };
  struct Pair {
    float score;
    int32_t left, right;
    uint32_t size;  // of both when the pair was found; if it has changed, the pair is gone
  };
  static bool is_worse(const Pair& a, const Pair& b);
  std::string_view text_of(const Symbol& symbol) const;
  void consider(int32_t left);
  void merge(const Pair& pair);

  const PieceTable& table_;
  Emit emit_;
  std::string run_;
  std::vector<Symbol> symbols_;
  std::vector<Pair> heap_;
};

}  // namespace supra
