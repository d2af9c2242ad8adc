#include "supra/formats/utf8.h"
#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/prefix_matcher.h"
#include "supra/tokenizers/sentencepiece_model.h"
#include "tensor/error.h"

// SentencePiece's BPE (Kudo and Richardson 2018, arXiv 1808.06226): spaces become U+2581 and one is put in
// front, user-defined pieces are cut out, the rest is merged from characters. Ids agree with the library's,
// on text that is no UTF-8 too.

namespace supra {

namespace {

class SentencePieceTokenizer : public PieceTokenizer {
 public:
  SentencePieceTokenizer(SentencePieceModel model, std::string_view bytes, const std::string& where)
      : PieceTokenizer("SentencePiece BPE", spec(model)),
        add_space_(model.add_dummy_prefix),
        strip_(model.remove_extra_whitespaces) {
    for (int32_t id = 0; id < size(); id++) {
      const Piece& piece = spec_.pieces[id];
      if (piece.type != Piece::Type::normal && piece.type != Piece::Type::user_defined) continue;
      CHECK(table_.add(piece.text, id, piece.score), "%s: piece %d is there twice: %s", where.c_str(), id,
            piece.text.c_str());
      if (piece.type == Piece::Type::user_defined) user_defined_.add(piece.text);
    }
    files_ = {{"tokenizer.model", std::string(bytes)}};
  }

 private:
  static Spec spec(SentencePieceModel& model) {
    Spec spec;
    spec.pieces = std::move(model.pieces);
    spec.space = "\u2581";
    spec.unknown = model.unknown;
    spec.bytes = model.byte_fallback;
    spec.drop_space = model.add_dummy_prefix || model.remove_extra_whitespaces;
    spec.marks = {
        .bos = model.bos, .eos = model.eos, .bos_in_front = model.bos >= 0, .eos_behind = model.eos >= 0};
    return spec;
  }

  void split(std::string_view text, PairMerger& merger) const override {
    const std::string normal = normalise(text);
    std::string_view rest = normal;
    while (!rest.empty()) {
      size_t size = user_defined_.match(rest);
      if (size > 0) {
        // nothing merges with it
        merger.finish();
        merger.add(rest.substr(0, size));
        merger.finish();
      } else {
        size = utf8_length(rest);
        merger.add(rest.substr(0, size));
      }
      rest.remove_prefix(size);
    }
  }

  // Spaces as the pieces write them. A byte that is no UTF-8 becomes U+FFFD. With remove_extra_whitespaces
  // spaces at both ends go and runs of them are one.
  std::string normalise(std::string_view text) const {
    while (strip_ && text.starts_with(' ')) text.remove_prefix(1);
    if (text.empty()) return "";
    const std::string_view space = spec_.space;
    std::string normal(add_space_ ? space : "");
    bool skip_spaces = strip_;
    while (!text.empty()) {
      const bool is_space = text[0] == ' ';
      const size_t size = utf8_length(text);
      if (!is_space) {
        normal += size > 0 ? text.substr(0, size) : "\ufffd";
      } else if (!skip_spaces) {
        normal += space;
      }
      skip_spaces = strip_ && is_space;
      text.remove_prefix(size > 0 ? size : 1);
    }
    while (strip_ && normal.ends_with(space)) normal.resize(normal.size() - space.size());
    return normal;
  }

  const bool add_space_, strip_;
  PrefixMatcher user_defined_;
};

}  // namespace

std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes,
                                                              const std::string& where) {
  return std::make_shared<SentencePieceTokenizer>(read_sentencepiece_model(bytes, where), bytes, where);
}

}  // namespace supra
