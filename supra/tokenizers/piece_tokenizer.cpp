#include "supra/tokenizers/piece_tokenizer.h"

#include "tensor/error.h"

namespace supra {

static int hex_digit(char c) {
  return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

int byte_of(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high << 4 | low;
}

std::string text_of_byte(uint8_t byte) { return format("<0x%02X>", byte); }

PieceTokenizer::PieceTokenizer(const char* kind, Spec spec)
    : Tokenizer(kind, static_cast<int32_t>(spec.pieces.size()), spec.marks), spec_(std::move(spec)) {
  for (int32_t id = 0; id < size(); id++) {
    const Piece& piece = spec_.pieces[id];
    if (piece.type == Piece::Type::byte) byte_ids_[byte_of(piece.text)] = id;
  }
}

void PieceTokenizer::encode_part(std::string_view text, bool beginning, std::vector<int32_t>& ids) const {
  bool after_unknown = false;
  split(text, beginning, [&](std::string_view symbol, int32_t id) {
    const bool unknown = id < 0 && !spec_.bytes;
    if (id >= 0) {
      ids.push_back(id);
    } else if (spec_.bytes) {
      for (const char c : symbol) ids.push_back(byte_ids_[static_cast<uint8_t>(c)]);
    } else if (!after_unknown) {
      // a run of unknown characters is one unknown piece
      ids.push_back(spec_.unknown);
    }
    after_unknown = unknown;
  });
}

std::vector<int32_t> PieceTokenizer::encode_text(std::string_view text, EncodeOptions options) const {
  std::vector<int32_t> ids;
  if (text.empty()) encode_part(text, !options.continues, ids);
  marks_.cut(text, options.parse_special, [&](int32_t id) { ids.push_back(id); },
      [&](std::string_view part, size_t at) { encode_part(part, at > 0 || !options.continues, ids); });
  return ids;
}

std::string PieceTokenizer::piece_text(int32_t id, bool first) const {
  const Piece& piece = spec_.pieces[id];
  if (piece.type == Piece::Type::byte) return {static_cast<char>(byte_of(piece.text))};
  // SentencePiece's sign for an unknown text
  if (piece.type == Piece::Type::unknown) return " \u2047 ";
  std::string_view rest = piece.text;
  if (first && spec_.drop_space && rest.starts_with(spec_.space)) rest.remove_prefix(spec_.space.size());
  std::string text;
  while (!rest.empty()) {
    const bool space = rest.starts_with(spec_.space);
    const size_t size = space ? spec_.space.size() : 1;
    text += space ? " " : rest.substr(0, 1);
    rest.remove_prefix(size);
  }
  return text;
}

bool PieceTokenizer::is_mark(int32_t id) const { return spec_.pieces[id].type == Piece::Type::control; }

}  // namespace supra
