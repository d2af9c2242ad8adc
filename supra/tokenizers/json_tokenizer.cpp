#include "supra/tokenizers/json_tokenizer.h"

#include <algorithm>

#include "supra/tokenizers/unicode.h"
#include "tensor/error.h"

namespace supra {

JsonTokenizer::JsonTokenizer(const char* kind, Parts parts, Marks marks, TokenizerConfig beside, std::vector<std::string> notes,
                             const std::string& where, Files files)
    : Tokenizer(kind, static_cast<int32_t>(parts.model.pieces.size()), std::move(marks)),
      added_(std::move(parts.added)),
      normalizer_(std::move(parts.normalizer)),
      pre_tokenizer_(std::move(parts.pre_tokenizer)),
      decoder_(std::move(parts.decoder)),
      pieces_(parts.model.pieces),
      later_files_(std::move(files)) {
  files_ = std::move(beside.files);
  chat_template_ = std::move(beside.chat_template);
  notes_ = std::move(notes);
  for (const AddedToken& token : added_) texts_.try_emplace(token.id, token.text);
  for (const AddedToken& token : added_) {
    if (token.special) special_.insert(token.id);
    TextPart normal = {token.text};
    if (token.normalized) normalizer_.apply(normal);
    // two tokens may have the same id, each with its own text
    const std::string& text = searched_.emplace_back(std::move(normal.text));
    pieces_.at(static_cast<size_t>(token.id)) = text;
    (token.normalized ? normalized_ : raw_).add(token, text);
    // ordinary text never becomes a special token
    if (token.special) parts.model.hidden.insert(token.text);
  }
  model_.emplace(std::move(parts.model), where);
}

std::vector<int32_t> JsonTokenizer::encode_text(std::string_view text, EncodeOptions options) const {
  WordModel::Run run(*model_);
  const auto token = [&](int32_t id) { run.ids.push_back(id); };
  raw_.cut(text, options.parse_special, token, [&](std::string_view between, size_t at) {
    const bool begins = at == 0;
    TextPart part = {std::string(between), begins, begins && options.continues, begins ? first_character(between).size : 0};
    normalizer_.apply(part);
    normalized_.cut(part.text, options.parse_special, token, [&](std::string_view rest, size_t place) {
      const size_t first = part.first > place ? std::min(part.first - place, rest.size()) : 0;
      WordList words = {std::string(rest), {{0, rest.size(), first}}, part.continues && place == 0};
      pre_tokenizer_.apply(words);
      for (const WordList::Word& word : words.words) run.add(words.at(word));
    });
  });
  return std::move(run.ids);
}

std::string JsonTokenizer::decode(std::span<const int32_t> ids, bool show_special) const {
  PieceTexts pieces;
  for (const int32_t id : ids) {
    if (is_special(id) && !show_special) continue;
    if (const std::string& piece = pieces_[static_cast<size_t>(id)]; !piece.empty()) pieces.texts.push_back(piece);
  }
  return decoder_.text_of(std::move(pieces));
}

std::string JsonTokenizer::mark_text(int32_t id) const {
  const auto found = texts_.find(id);
  return found == texts_.end() ? "" : found->second;
}

std::string JsonTokenizer::piece_text(int32_t id, bool first) const {
  return decoder_.text_of({{pieces_[static_cast<size_t>(id)]}, first, false});
}

}  // namespace supra
