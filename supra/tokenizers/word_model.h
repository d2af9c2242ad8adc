#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "supra/tokenizers/pair_merger.h"
#include "supra/tokenizers/unigram.h"

namespace supra {

// The model of a tokenizer.json: the ids of a word, by byte-pair encoding with a list of merges, or by unigram.
class WordModel {
 public:
  struct Spec {
    std::vector<std::string> pieces;                          // by id; "": the id has no piece
    std::vector<std::pair<std::string, std::string>> merges;  // the earliest first
    std::vector<double> scores;                               // not empty: unigram
    std::unordered_set<std::string> hidden;                   // special tokens: no text becomes these pieces
    bool ignore_merges = false;                               // a word that is a piece is not merged
    bool byte_fallback = false;                               // unknown characters become <0x00> to <0xFF>
    int32_t unknown = -1;                                     // or this piece
    bool fuse_unknown = false;                                // a run of unknown characters is one piece
  };
  // Throws Error, with `where`, if a merge makes a text that is not a piece.
  WordModel(Spec spec, const std::string& where);

  // The ids of one text. It remembers the ids of words, because most words are repeated.
  class Run {
   public:
    explicit Run(const WordModel& model);
    void add(std::string_view word);
    std::vector<int32_t> ids;

   private:
    bool has_bytes(std::string_view symbol) const;
    void merge(std::string_view word);
    void add_pieces(std::string_view word);

    const WordModel& model_;
    PairMerger merger_;
    std::unordered_map<std::string, std::vector<int32_t>> known_;
    size_t known_bytes_ = 0;
  };

 private:
  const Spec spec_;
  PieceTable table_;
  std::optional<Unigram> unigram_;
  std::array<int32_t, 256> byte_ids_;
};

}  // namespace supra
