#include <cmath>

#include "supra/formats/parse/byte_reader.h"
#include "supra/tokenizers/piece_tokenizer.h"

// The tokenizer of github.com/karpathy/llama2.c (run.c, tokenizer.py), an export of a SentencePiece BPE: int32 longest piece in
// bytes, then for each id float32 score, int32 size, text. Spaces are written as spaces. Ids 0, 1, 2 are <unk>, BOS and EOS. If
// 3 to 258 are the bytes, their texts are "<0x00>" to "<0xFF>".

namespace supra {

namespace {

constexpr int32_t kBos = 1, kEos = 2, kFirstByte = 3, kFirstNormal = kFirstByte + 256;

std::vector<Piece> read_pieces(std::string_view file, const std::string& where) {
  ByteReader in(file, where);
  const auto longest = in.number<int32_t>("the header of a llama2.c tokenizer");
  CHECK(longest > 0, "%s: says that its longest piece has %d bytes (it is not a llama2.c tokenizer)", where.c_str(), longest);
  std::vector<Piece> pieces;
  while (in.left() > 0) {
    Piece piece;
    piece.score = in.number<float>("a score");
    const auto size = in.number<int32_t>("a size");
    CHECK(std::isfinite(piece.score) && size >= 0 && size <= longest,
          "%s: piece %zu before byte %lu has the score %g and %d bytes, at most %d are announced (the file is damaged, or not a "
          "llama2.c tokenizer)",
          where.c_str(), pieces.size(), static_cast<unsigned long>(in.at()), piece.score, size, longest);
    piece.text = in.bytes(static_cast<uint64_t>(size), "a piece");
    pieces.push_back(std::move(piece));
  }
  CHECK(pieces.size() > kEos, "%s: has %zu pieces, a vocabulary begins with <unk>, BOS and EOS", where.c_str(), pieces.size());
  return pieces;
}

bool holds_bytes(const std::vector<Piece>& pieces) {
  if (pieces.size() < kFirstNormal) return false;
  for (int byte = 0; byte < 256; byte++) {
    if (byte_of(pieces[kFirstByte + byte].text) != byte) return false;
  }
  return true;
}

class Llama2cTokenizer : public PieceTokenizer {
 public:
  Llama2cTokenizer(std::string_view bytes, const std::string& where)
      : PieceTokenizer("llama2.c", spec(bytes, where)) {
    // llama2.c looks up any text, also that of a byte's piece
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
    // its training text has BOS before each story and no EOS, and its program stops at BOS
    spec.marks = {.bos = kBos, .eos = kEos, .bos_in_front = true, .eos_behind = true, .bos_separates = true};
    spec.pieces[0].type = Piece::Type::unknown;
    spec.pieces[kBos].type = spec.pieces[kEos].type = Piece::Type::control;
    spec.bytes = holds_bytes(spec.pieces);
    if (spec.bytes) {
      for (int32_t id = kFirstByte; id < kFirstNormal; id++) spec.pieces[id].type = Piece::Type::byte;
    }
    return spec;
  }

  void split(std::string_view text, bool beginning, const PairMerger::Emit& emit) const override {
    if (text.empty()) return;
    PairMerger merger(table_, emit);
    if (beginning) add(" ", merger);
    while (!text.empty()) {
      // any byte, and up to three continuation bytes
      size_t size = 1;
      while (size < 4 && size < text.size() && (text[size] & 0xc0) == 0x80) size++;
      add(text.substr(0, size), merger);
      text.remove_prefix(size);
    }
    merger.finish();
  }

  // A character that is not a piece becomes bytes before anything is merged: symbols of six characters such as "<0xE2>".
  void add(std::string_view character, PairMerger& merger) const {
    if (!spec_.bytes || table_.find(character) >= 0) return merger.add(character);
    for (const char c : character) merger.add(spec_.pieces[kFirstByte + static_cast<uint8_t>(c)].text);
  }
};

}  // namespace

std::shared_ptr<const Tokenizer> make_llama2c_tokenizer(std::string_view bytes, const std::string& where) {
  return std::make_shared<Llama2cTokenizer>(bytes, where);
}

}  // namespace supra
