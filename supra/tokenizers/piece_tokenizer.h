#pragma once
#include <array>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/added_tokens.h"
#include "supra/tokenizers/pair_merger.h"
#include "supra/tokenizers/tokenizer.h"

// What llama2.c's tokenizer and SentencePiece's BPE have in common, the former being an export of the latter:
// pieces with scores and types, what is no piece, and decoding. They differ in their files and in how a text
// becomes the first symbols.

namespace supra {

// A piece of a vocabulary; its id is its place. The types are SentencePiece's.
struct Piece {
  enum class Type : uint8_t { normal = 1, unknown, control, user_defined, unused, byte };
  std::string text;
  float score = 0;
  Type type = Type::normal;
};

// The byte that a text such as <0x0A> stands for, or -1.
int byte_of(std::string_view text);

// "<0x0A>"
std::string text_of_byte(uint8_t byte);

class PieceTokenizer : public Tokenizer {
 protected:
  struct Spec {
    std::vector<Piece> pieces;
    std::string_view space;  // how the pieces write a space: a literal
    int32_t unknown = 0;     // the id of what is no piece, where there are no bytes either
    bool bytes = false;      // every byte is a piece
    bool drop_space = true;  // encoding puts a space in front, decoding takes one away
    Marks marks;
  };
  PieceTokenizer(const char* kind, Spec spec);

  const Spec spec_;
  PieceTable table_;  // filled by the kind: the pieces that merging makes
  // Filled by a kind that parses them: the control pieces.
  std::deque<AddedToken> mark_tokens_;
  AddedTokens marks_;

 private:
  // Hands out the pieces of a text from left to right. `beginning`: it goes on from no other text.
  virtual void split(std::string_view text, bool beginning, const PairMerger::Emit& emit) const = 0;

  void encode_part(std::string_view text, bool beginning, std::vector<int32_t>& ids) const;
  std::vector<int32_t> encode_text(std::string_view text, EncodeOptions options) const final;
  std::string piece_text(int32_t id, bool first) const final;
  bool is_mark(int32_t id) const final;

  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace supra
