#pragma once
#include <array>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/added_tokens.h"
#include "supra/tokenizers/pair_merger.h"
#include "supra/tokenizers/tokenizer.h"

// The common part of the tokenizers of llama2.c and SentencePiece (the former is an export of the latter): pieces with scores
// and types, unknown characters, decoding. They differ in their files and in the first symbols of a text.

namespace supra {

// A piece of a vocabulary; its id is its index. The types are SentencePiece's.
struct Piece {
  enum class Type : uint8_t { normal = 1, unknown, control, user_defined, unused, byte };
  std::string text;
  float score = 0;
  Type type = Type::normal;
};

// The byte that a text such as <0x0A> stands for; else -1.
int byte_of(std::string_view text);

// "<0x0A>"
std::string text_of_byte(uint8_t byte);

class PieceTokenizer : public Tokenizer {
 protected:
  struct Spec {
    std::vector<Piece> pieces;
    std::string_view space;  // a space as the pieces write it
    int32_t unknown = 0;     // the id of unknown characters, if bytes are not pieces
    bool bytes = false;      // every byte is a piece
    bool drop_space = true;  // encoding puts a space before the text, decoding removes one
    Marks marks;
  };
  PieceTokenizer(const char* kind, Spec spec);

  const Spec spec_;
  PieceTable table_;  // the pieces that merging makes; a derived class fills it
  // The control pieces, if the derived class parses them.
  std::deque<AddedToken> mark_tokens_;
  AddedTokens marks_;

 private:
  // Calls `emit` with the pieces of a text from left to right. `beginning`: it continues no other text.
  virtual void split(std::string_view text, bool beginning, const PairMerger::Emit& emit) const = 0;

  void encode_part(std::string_view text, bool beginning, std::vector<int32_t>& ids) const;
  std::vector<int32_t> encode_text(std::string_view text, EncodeOptions options) const final;
  std::string piece_text(int32_t id, bool first) const final;
  bool is_mark(int32_t id) const final;

  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace supra
