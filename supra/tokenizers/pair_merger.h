#pragma once
#include <bitset>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

// Byte-pair encoding, the one algorithm of all kinds: of all adjacent symbols that may be merged, the two whose merge
// has the best score are, the leftmost of equals, until none are left. SentencePiece and llama2.c merge any two that
// together are a piece; GPT-2's kind merges the pairs of a list, the earliest first.

namespace supra {

// The pieces that merging may make. Views the texts: they must outlive it.
class PieceTable {
 public:
  // A piece that any two symbols make. False, and nothing is added, when the text is there already.
  bool add(std::string_view text, int32_t id, float score) { return add(text, {id, score, kAny, -1}); }
  // A piece that only merges make, if there are any.
  bool add(std::string_view text, int32_t id) { return add(text, {id, 0, kNone, -1}); }
  // A merge of the first `left` bytes of a piece with the others. Throws Error where the text is no piece.
  void add_merge(std::string_view text, size_t left, float score);

  // -1 where the text is no piece.
  int32_t find(std::string_view text) const;
  // The score of merging the first `left` bytes with the others; null where they may not be merged.
  const float* find_merge(std::string_view text, size_t left) const;

  // Whether the two bytes stand side by side in any piece. Where they do not, no merge crosses, and a text
  // falls into runs that can be merged one by one: mostly its words.
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
    int32_t next;   // another way to make the piece, in more_; -1: there is none
  };
  bool add(std::string_view text, Entry entry);

  std::unordered_map<std::string_view, Entry> entries_;
  std::vector<Entry> more_;
  std::bitset<65536> joins_;
};

// Takes the symbols of a text from left to right and hands out the pieces, in the same order. Time n log n
// and memory n in the longest run.
class PairMerger {
 public:
  // `emit` gets a symbol that can be merged no further and its id, -1 where it is no piece.
  using Emit = std::function<void(std::string_view symbol, int32_t id)>;
  PairMerger(const PieceTable& table, Emit emit) : table_(table), emit_(std::move(emit)) {}

  // Throws Error where a run passes 2 GiB.
  void add(std::string_view symbol);

  // Merges what is there and hands it out: the end of the text, or a place that no merge may cross.
  void finish();

 private:
  struct Symbol {
    uint32_t begin, size;    // in run_; size 0: merged into its left neighbour
    int32_t previous, next;  // -1 at the ends
  };
  struct Pair {
    float score;
    int32_t left, right;
    uint32_t size;  // of both when the pair was found; another size now: the pair is no more
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
