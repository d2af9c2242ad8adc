#pragma once
#include <string>
#include <vector>

#include "supra/tokenizers/piece_tokenizer.h"

namespace supra {

// The unigram language model of SentencePiece (Kudo 2018, arXiv 1804.10959): of all ways to cut a text into pieces it finds the
// one with the largest sum of scores, which are log-probabilities. Viterbi, linear in the text. Sums are taken from the left,
// in float32 like SentencePiece (EncodeOptimized in unigram_model.cc) or in float64 like Hugging Face's tokenizers, to break
// ties alike.
class Unigram {
 public:
  // `table` has the texts of the pieces and must outlive this object.
  Unigram(const std::vector<Piece>& pieces, const PieceTable& table);
  Unigram(const std::vector<std::string>& pieces, std::vector<double> scores, const PieceTable& table);

  // Calls `emit` with the pieces from left to right. A character that no piece covers has id -1.
  void encode(std::string_view text, const PairMerger::Emit& emit) const;

 private:
  double sum(double a, double b) const { return single_ ? static_cast<double>(static_cast<float>(a + b)) : a + b; }

  std::vector<double> scores_;  // by id
  const PieceTable& table_;
  size_t longest_ = 0;
  double lowest_ = 0, highest_ = 0;
  std::vector<bool> user_defined_;  // by id
  bool single_;
};

}  // namespace supra
