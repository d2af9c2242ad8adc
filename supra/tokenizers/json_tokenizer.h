#pragma once
#include <deque>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "supra/tokenizers/added_tokens.h"
#include "supra/tokenizers/normalizer.h"
#include "supra/tokenizers/piece_decoder.h"
#include "supra/tokenizers/pre_tokenizer.h"
#include "supra/tokenizers/tokenizer.h"
#include "supra/tokenizers/tokenizer_config.h"
#include "supra/tokenizers/word_model.h"

namespace supra {

// The tokenizer of a tokenizer.json. Added tokens are cut out of a text, the parts between them are normalised and cut into
// words, and a model gives the ids of each word. A decoder joins pieces to a text.
class JsonTokenizer : public Tokenizer {
 public:
  struct Parts {
    std::vector<AddedToken> added;
    Normalizer normalizer;
    PreTokenizer pre_tokenizer;
    WordModel::Spec model;
    PieceDecoder decoder;
  };
  using Files = std::function<std::vector<File>()>;  // null: the files it was read from
  // Throws Error naming `where` if merges or tokens are not pieces.
  JsonTokenizer(const char* kind, Parts parts, Marks marks, TokenizerConfig beside, std::vector<std::string> notes,
                const std::string& where, Files files);

  std::string decode(std::span<const int32_t> ids, bool show_special = false) const override;
  std::vector<File> files() const override { return later_files_ ? later_files_() : files_; }
  std::string mark_text(int32_t id) const override;

 private:
  std::vector<int32_t> encode_text(std::string_view text, EncodeOptions options) const override;
  std::string piece_text(int32_t id, bool first) const override;
  bool is_mark(int32_t id) const override { return special_.contains(id); }

  const std::vector<AddedToken> added_;
  const Normalizer normalizer_;
  const PreTokenizer pre_tokenizer_;
  const PieceDecoder decoder_;
  std::vector<std::string> pieces_;  // by id: the model's, and added tokens, the `normalized` ones after normalisation
  std::unordered_map<int32_t, std::string> texts_;  // of added tokens
  std::unordered_set<int32_t> special_;
  std::deque<std::string> searched_;  // the texts that the next two search for
  AddedTokens raw_, normalized_;
  std::optional<WordModel> model_;
  const Files later_files_;
};

}  // namespace supra
