#include "supra/tokenizers/sentencepiece_model.h"

#include <cmath>

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/protobuf.h"
#include "tensor/error.h"

namespace supra {

namespace {

Piece read_piece(ProtoReader reader, size_t id, const std::string& where) {
  Piece piece;
  int64_t type = 1;
  while (reader.next()) {
    if (reader.field() == 1) piece.text = reader.bytes();
    if (reader.field() == 2) piece.score = reader.real();
    if (reader.field() == 3) type = reader.integer();
  }
  CHECK(!piece.text.empty(), "%s: piece %zu is empty", where.c_str(), id);
  CHECK(is_utf8(piece.text), "%s: piece %zu is not UTF-8 (the file is damaged, or not a SentencePiece model)",
        where.c_str(), id);
  CHECK(std::isfinite(piece.score), "%s: piece %zu has the score %g", where.c_str(), id, piece.score);
  CHECK(type >= 1 && type <= 6, "%s: piece %zu has the unknown type %lld", where.c_str(), id, static_cast<long long>(type));
  piece.type = static_cast<Piece::Type>(type);
  CHECK(piece.type != Piece::Type::unused,
        "%s: piece %zu is marked unused; vocabularies cut that way are not read", where.c_str(), id);
  return piece;
}

struct MarkTexts {
  std::string bos = "<s>", eos = "</s>";
};

void read_trainer_spec(ProtoReader reader, const std::string& where, SentencePieceModel& model, MarkTexts& marks) {
  int64_t type = 1;
  bool suffix = false;
  while (reader.next()) {
    if (reader.field() == 3) type = reader.integer();
    if (reader.field() == 24) suffix = reader.integer() != 0;
    if (reader.field() == 35) model.byte_fallback = reader.integer() != 0;
    if (reader.field() == 46) marks.bos = reader.bytes();
    if (reader.field() == 47) marks.eos = reader.bytes();
  }
  const char* kind = type == 3 ? "word" : type == 4 ? "char" : "of an unknown kind";
  CHECK(type == 1 || type == 2, "%s: SentencePiece %s is not read (unigram and BPE are)", where.c_str(), kind);
  model.unigram = type == 1;
  CHECK(!suffix, "%s: SentencePiece with the space after the word (treat_whitespace_as_suffix) is not read", where.c_str());
}

void read_normalizer_spec(ProtoReader reader, const std::string& where, SentencePieceModel& model) {
  bool escape = true;
  while (reader.next()) {
    if (reader.field() == 2 && !reader.bytes().empty()) model.charsmap = CharsMap(reader.bytes(), where);
    if (reader.field() == 3) model.add_dummy_prefix = reader.integer() != 0;
    if (reader.field() == 4) model.remove_extra_whitespaces = reader.integer() != 0;
    if (reader.field() == 5) escape = reader.integer() != 0;
  }
  CHECK(escape, "%s: SentencePiece without escape_whitespaces is not read", where.c_str());
}

void check_pieces(const SentencePieceModel& model, const std::string& where) {
  std::array<int, 256> found{};
  for (size_t id = 0; id < model.pieces.size(); id++) {
    if (model.pieces[id].type != Piece::Type::byte) continue;
    const int byte = byte_of(model.pieces[id].text);
    CHECK(byte >= 0 && found[byte]++ == 0,
          "%s: piece %zu is of type byte and its text is not <0x00> to <0xFF>, once each", where.c_str(), id);
  }
  for (int byte = 0; byte < 256; byte++) {
    CHECK(found[byte] == model.byte_fallback, "%s: byte_fallback is %s and %s is %s", where.c_str(),
          model.byte_fallback ? "on" : "off", text_of_byte(byte).c_str(), found[byte] ? "there" : "missing");
  }
  CHECK(model.unknown >= 0, "%s: no piece of %zu is of type unknown", where.c_str(), model.pieces.size());
}

}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& where) {
  SentencePieceModel model;
  MarkTexts marks;
  bool trained = false;
  ProtoReader reader(bytes, where);
  while (reader.next()) {
    if (reader.field() == 1) model.pieces.push_back(read_piece(reader.message(), model.pieces.size(), where));
    if (reader.field() == 2) read_trainer_spec(reader.message(), where, model, marks);
    if (reader.field() == 3) read_normalizer_spec(reader.message(), where, model);
    if (reader.field() == 5) {
      ProtoReader undoing = reader.message();
      while (undoing.next()) {
        CHECK(undoing.field() != 2 || undoing.bytes().empty(),
              "%s: SentencePiece with rules for decoding is not read", where.c_str());
      }
    }
    trained = trained || reader.field() == 2;
  }
  CHECK(trained, "%s: has no trainer_spec (it is not a SentencePiece model, or it is cut short)", where.c_str());
  for (size_t id = 0; id < model.pieces.size(); id++) {
    const Piece& piece = model.pieces[id];
    const auto number = static_cast<int32_t>(id);
    if (piece.type == Piece::Type::control && piece.text == marks.bos) model.bos = number;
    if (piece.type == Piece::Type::control && piece.text == marks.eos) model.eos = number;
    if (piece.type != Piece::Type::unknown) continue;
    CHECK(model.unknown < 0, "%s: pieces %d and %zu are both of type unknown", where.c_str(), model.unknown, id);
    model.unknown = number;
  }
  check_pieces(model, where);
  return model;
}

}  // namespace supra
