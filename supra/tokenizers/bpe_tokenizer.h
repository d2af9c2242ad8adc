#pragma once
#include <array>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "supra/tokenizers/pair_merger.h"
#include "supra/tokenizers/pre_tokenizer.h"
#include "supra/tokenizers/prefix_matcher.h"
#include "supra/tokenizers/tokenizer.h"

namespace supra {

// A token beside the vocabulary that is cut out of a text before anything else. Special ones only where the
// caller asks for it; `normalized` ones after the text was normalised.
struct AddedToken {
  int32_t id;
  std::string text;
  bool special = false, normalized = false;
};

// Byte-pair encoding by a list of merges: GPT-2's kind, on bytes, and that of Llama's tokenizer.json, on
// characters. Its files are read by tokenizer_json.h, gguf_vocabulary.h and make_gpt2_tokenizer().
struct BpeVocabulary {
  // Where a text of the second kind gets the space that SentencePiece puts in front: of every part between
  // added tokens, of those that begin with none, or of the first if it does.
  enum class Space { none, always, missing, beginning };

  std::vector<std::string>
      pieces;  // by id; bytes as bytes, not as the files write them; "" where there is none
  std::vector<std::pair<std::string, std::string>> merges;  // the earliest first
  std::vector<AddedToken> added;
  bool bytes = true;                    // pieces are of bytes, else of characters with U+2581 for a space
  bool nfc = false;                     // the text is normalised
  bool prefix_space = false;            // bytes: a part that begins with none gets one
  std::optional<SplitPattern> pattern;  // none: the text is one word
  bool ignore_merges = false;           // a word that is a piece is not merged
  Space space = Space::none;            // characters only, as what follows
  bool byte_fallback = false;           // what is no piece becomes <0x00> to <0xFF>
  int32_t unknown = -1;                 // what is no piece otherwise
  bool fuse_unknown = false;            // a run of them is one
};

class BpeTokenizer : public Tokenizer {
 public:
  // Throws Error naming `where` for merges or tokens that are no pieces.
  BpeTokenizer(const char* kind, BpeVocabulary vocabulary, Marks marks, std::vector<File> files,
               const std::string& where, std::string chat_template = "");

 private:
  using Ids = std::vector<int32_t>;
  struct Words;

  Ids encode_text(std::string_view text, EncodeOptions options) const override;
  std::string piece_text(int32_t id, bool first) const override;
  bool is_mark(int32_t id) const override { return special_.contains(id); }
  std::string mark_text(int32_t id) const override { return vocabulary_.pieces[id]; }
  void encode_part(std::string_view text, bool beginning, bool continues, Words& words) const;
  void encode_words(std::string_view text, Words& words) const;

  const BpeVocabulary vocabulary_;
  PieceTable table_;
  std::unordered_map<std::string_view, int32_t> added_;
  std::unordered_map<int32_t, bool> special_;
  PrefixMatcher raw_, raw_with_special_, normalized_, normalized_with_special_;
  std::array<int32_t, 256> byte_ids_;
};

}  // namespace supra
