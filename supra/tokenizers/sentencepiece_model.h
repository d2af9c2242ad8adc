#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/charsmap.h"
#include "supra/tokenizers/piece_tokenizer.h"

namespace supra {

// The contents of a SentencePiece .model that encoding needs (ModelProto of sentencepiece_model.proto, github.com/google/
// sentencepiece). The defaults are the proto's.
struct SentencePieceModel {
  std::vector<Piece> pieces;
  int32_t unknown = -1, bos = -1, eos = -1;  // ids; -1: none
  bool unigram = true;                       // else BPE
  bool byte_fallback = false;
  CharsMap charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
};

// Throws Error with file and offset if it is damaged, and with the feature if it is not supported: word and char models, unused
// pieces.
SentencePieceModel read_sentencepiece_model(std::string_view bytes, const std::string& where);

}  // namespace supra
