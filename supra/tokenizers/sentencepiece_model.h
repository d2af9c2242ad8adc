#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/charsmap.h"
#include "supra/tokenizers/piece_tokenizer.h"

namespace supra {

// What a SentencePiece .model says (ModelProto of sentencepiece_model.proto, github google/sentencepiece), as
// far as encoding needs it. The defaults are the proto's.
struct SentencePieceModel {
  std::vector<Piece> pieces;
  int32_t unknown = -1, bos = -1, eos = -1;  // ids, -1 where there is none
  bool unigram = true;                       // else BPE
  bool byte_fallback = false;
  CharsMap charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};

// Throws Error naming file and offset where it is damaged, and naming the feature where it is of a kind that
// is not read: word and char models, unused pieces.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& where);

}  // namespace supra
