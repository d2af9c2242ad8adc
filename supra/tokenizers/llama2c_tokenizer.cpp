#include <cmath>
#include <cstring>

#include "supra/tokenizers/piece_tokenizer.h"
#include "tensor/error.h"

// The tokenizer of github karpathy/llama2.c (run.c, tokenizer.py), an export of a SentencePiece BPE: int32
// longest piece in bytes, then for each id, up to the end of the file, float32 score, int32 size, text.
// Spaces stand as themselves. Ids 0, 1, 2 are <unk>, BOS and EOS; where 3 to 258 are the bytes, their texts
// are "<0x00>" to "<0xFF>".

namespace supra {

namespace {

constexpr int32_t bos_id = 1, eos_id = 2, first_byte = 3, first_normal = first_byte + 256;

std::vector<Piece> read_pieces(std::string_view file, const std::string& where) {
  size_t at = 0;
  auto take = [&](size_t size, const char* what) {
    CHECK(size <= file.size() - at,
          "%s: the file ends inside %s at byte %zu: not a llama2.c tokenizer, or cut off", where.c_str(),
          what, at);
    const std::string_view bytes = file.substr(at, size);
    at += size;
    return bytes;
  };
  auto integer = [&](const char* what) {
    int32_t value;
    memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  };
  const int32_t longest = integer("the header");
  CHECK(longest > 0, "%s: the longest piece is said to have %d bytes: not a llama2.c tokenizer",
        where.c_str(), longest);
  std::vector<Piece> pieces;
  while (at < file.size()) {
    Piece piece;
    memcpy(&piece.score, take(sizeof piece.score, "a score").data(), sizeof piece.score);
    const int32_t size = integer("a size");
    CHECK(std::isfinite(piece.score) && size >= 0 && size <= longest,
          "%s: piece %zu before byte %zu has the score %g and %d bytes, at most %d are announced: not a "
          "llama2.c "
          "tokenizer, or damaged",
          where.c_str(), pieces.size(), at, piece.score, size, longest);
    piece.text = take(size, "a piece");
    pieces.push_back(std::move(piece));
  }
  CHECK(pieces.size() > eos_id, "%s: %zu pieces, a vocabulary begins with <unk>, BOS and EOS", where.c_str(),
        pieces.size());
  return pieces;
}

bool holds_bytes(const std::vector<Piece>& pieces) {
  if (pieces.size() < first_normal) return false;
  for (int byte = 0; byte < 256; byte++) {
    if (byte_of(pieces[first_byte + byte].text) != byte) return false;
  }
  return true;
}

class Llama2cTokenizer : public PieceTokenizer {
 public:
  Llama2cTokenizer(std::string_view bytes, const std::string& where)
      : PieceTokenizer("llama2.c", spec(bytes, where)) {
    // llama2.c looks up any text, that of a byte's piece included
    for (int32_t id = 0; id < size(); id++) {
      const Piece& piece = spec_.pieces[id];
      if (!piece.text.empty()) table_.add(piece.text, id, piece.score);
    }
    files_ = {{"tokenizer.bin", std::string(bytes)}};
  }

 private:
  static Spec spec(std::string_view bytes, const std::string& where) {
    Spec spec;
    spec.pieces = read_pieces(bytes, where);
    spec.space = " ";
    // its training text has BOS in front of each story and no EOS, and its program stops at BOS
    spec.marks = {.bos = bos_id, .eos = eos_id, .bos_in_front = true, .eos_behind = true, .bos_separates = true};
    spec.pieces[0].type = Piece::Type::unknown;
    spec.pieces[bos_id].type = spec.pieces[eos_id].type = Piece::Type::control;
    spec.bytes = holds_bytes(spec.pieces);
    if (spec.bytes) {
      for (int32_t id = first_byte; id < first_normal; id++) spec.pieces[id].type = Piece::Type::byte;
    }
    return spec;
  }

  void split(std::string_view text, bool beginning, const PairMerger::Emit& emit) const override {
    if (text.empty()) return;
    PairMerger merger(table_, emit);
    if (beginning) add(" ", merger);
    while (!text.empty()) {
      // a byte and up to three continuations, whatever it is
      size_t size = 1;
      while (size < 4 && size < text.size() && (text[size] & 0xc0) == 0x80) size++;
      add(text.substr(0, size), merger);
      text.remove_prefix(size);
    }
    merger.finish();
  }

  // What is no piece becomes bytes before anything is merged, and these are symbols of six characters:
  // "<0xE2>".
  void add(std::string_view character, PairMerger& merger) const {
    if (!spec_.bytes || table_.find(character) >= 0) return merger.add(character);
    for (const char c : character) merger.add(spec_.pieces[first_byte + static_cast<uint8_t>(c)].text);
  }
};

}  // namespace

std::shared_ptr<const Tokenizer> make_llama2c_tokenizer(std::string_view bytes, const std::string& where) {
  return std::make_shared<Llama2cTokenizer>(bytes, where);
}

}  // namespace supra
