#include <algorithm>
#include <optional>

#include "supra/formats/parse/utf8.h"
#include "supra/tokenizers/piece_tokenizer.h"
#include "supra/tokenizers/prefix_matcher.h"
#include "supra/tokenizers/sentencepiece_model.h"
#include "supra/tokenizers/tokenizer_config.h"
#include "supra/tokenizers/unicode.h"
#include "supra/tokenizers/unigram.h"
#include "tensor/error.h"

// SentencePiece (Kudo and Richardson 2018, arXiv 1808.06226): normalises the text, writes spaces as U+2581 and puts one before
// the text. Then BPE cuts out user-defined pieces and merges the other characters, or unigram finds the likeliest pieces. The
// ids are those of the library, also for text that is not UTF-8.

namespace supra {

namespace {

class SentencePieceTokenizer : public PieceTokenizer {
 public:
  SentencePieceTokenizer(SentencePieceModel model, std::string_view bytes, const std::string& where,
                         TokenizerConfig beside, const Marks* marks)
      : PieceTokenizer(model.unigram ? "SentencePiece unigram" : "SentencePiece BPE",
                       spec(model, std::move(beside.ends), marks)),
        add_space_(model.add_dummy_prefix),
        strip_(model.remove_extra_whitespaces),
        charsmap_(std::move(model.charsmap)) {
    for (int32_t id = 0; id < size(); id++) {
      const Piece& piece = spec_.pieces[id];
      if (piece.type == Piece::Type::control) {
        mark_tokens_.push_back({id, piece.text, true});
        const auto& stripping = beside.strips_right;
        mark_tokens_.back().strips_right = std::find(stripping.begin(), stripping.end(), piece.text) != stripping.end();
        marks_.add(mark_tokens_.back(), piece.text);
      }
      if (piece.type != Piece::Type::normal && piece.type != Piece::Type::user_defined) continue;
      CHECK(table_.add(piece.text, id, piece.score), "%s: piece %d repeats an earlier one: %s", where.c_str(), id, piece.text.c_str());
      if (piece.type == Piece::Type::user_defined) user_defined_.add(piece.text);
    }
    if (model.unigram) unigram_.emplace(spec_.pieces, table_);
    files_ = std::move(beside.files);
    files_.insert(files_.begin(), {"tokenizer.model", std::string(bytes)});
    chat_template_ = std::move(beside.chat_template);
  }

 private:
  static Spec spec(SentencePieceModel& model, std::vector<int32_t> ends, const Marks* marks) {
    Spec spec;
    spec.pieces = std::move(model.pieces);
    spec.space = "\u2581";
    spec.unknown = model.unknown;
    spec.bytes = model.byte_fallback;
    spec.drop_space = model.add_dummy_prefix || model.remove_extra_whitespaces;
    spec.marks = {
        .bos = model.bos, .eos = model.eos, .bos_in_front = model.bos >= 0, .eos_behind = model.eos >= 0};
    if (marks) spec.marks = *marks;
    spec.marks.ends = std::move(ends);
    return spec;
  }

  void split(std::string_view text, bool beginning, const PairMerger::Emit& emit) const override {
    const std::string normal = normalise(text, beginning);
    if (unigram_) return unigram_->encode(normal, emit);
    PairMerger merger(table_, emit);
    std::string_view rest = normal;
    while (!rest.empty()) {
      size_t size = user_defined_.match(rest);
      if (size > 0) {
        // user-defined pieces are not merged
        merger.finish();
        merger.add(rest.substr(0, size));
        merger.finish();
      } else {
        size = first_character(rest).size;
        merger.add(rest.substr(0, size));
      }
      rest.remove_prefix(size);
    }
    merger.finish();
  }

  // How the beginning of a text is normalised: a user-defined piece stays the same, then the longest rule counts. A byte that
  // is not UTF-8 becomes U+FFFD.
  CharsMap::Rule next(std::string_view text) const {
    if (const size_t size = user_defined_.match(text)) return {size, text.substr(0, size)};
    if (const CharsMap::Rule rule = charsmap_.match(text); rule.size > 0) return rule;
    const size_t size = utf8_length(text);
    if (size == 0) return {1, "\ufffd"};
    return {size, text.substr(0, size)};
  }

  // Writes spaces as the pieces do. remove_extra_whitespaces removes spaces at both ends and merges runs of spaces.
  std::string normalise(std::string_view text, bool beginning) const {
    bool stripped = false;
    while (strip_ && !text.empty()) {
      const CharsMap::Rule first = next(text);
      if (first.text != " ") break;
      text.remove_prefix(first.size);
      stripped = true;
    }
    if (text.empty()) return "";
    const std::string_view space = spec_.space;
    std::string normal((beginning ? add_space_ : stripped) ? space : "");
    bool skip_spaces = strip_;
    while (!text.empty()) {
      const CharsMap::Rule rule = next(text);
      std::string_view part = rule.text;
      while (skip_spaces && part.starts_with(' ')) part.remove_prefix(1);
      for (const char c : part) {
        if (c == ' ')
          normal += space;
        else
          normal += c;
      }
      if (!part.empty()) skip_spaces = strip_ && part.ends_with(' ');
      text.remove_prefix(rule.size);
    }
    while (strip_ && normal.ends_with(space)) normal.resize(normal.size() - space.size());
    return normal;
  }

  const bool add_space_, strip_;
  const CharsMap charsmap_;
  PrefixMatcher user_defined_;
  std::optional<Unigram> unigram_;
};

}  // namespace

std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes, const std::string& where) {
  return make_sentencepiece_tokenizer(bytes, where, TokenizerConfig());
}

std::shared_ptr<const Tokenizer> make_sentencepiece_tokenizer(std::string_view bytes, const std::string& where, TokenizerConfig beside,
                                                              const Tokenizer::Marks* marks) {
  return std::make_shared<SentencePieceTokenizer>(read_sentencepiece_model(bytes, where), bytes, where, std::move(beside), marks);
}

}  // namespace supra
