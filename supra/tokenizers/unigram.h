#pragma once
#include "supra/tokenizers/piece_tokenizer.h"

namespace supra {

// The unigram language model of SentencePiece (Kudo 2018, arXiv 1804.10959): of all ways to cut a text into
// pieces, the one whose scores, log-probabilities, have the largest sum. Viterbi, linear in the text. Sums
// are float32 and taken from the left, as the library takes them (EncodeOptimized in unigram_model.cc), so
// that ties fall alike.
class Unigram {
 public:
  // Views the pieces and the table of their texts: they must outlive it.
  Unigram(const std::vector<Piece>& pieces, const PieceTable& table);

  // Hands out the pieces from left to right; a character that no piece covers with id -1.
  void encode(std::string_view text, const PairMerger::Emit& emit) const;

 private:
  const std::vector<Piece>& pieces_;
  const PieceTable& table_;
  size_t longest_ = 0;
  float lowest_, highest_;
};

}  // namespace supra
