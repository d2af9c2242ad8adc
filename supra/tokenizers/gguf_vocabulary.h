#pragma once
#include <memory>

#include "supra/tokenizers/tokenizer.h"

namespace supra {

// The vocabulary inside a GGUF (keys tokenizer.*): SentencePiece BPE ("llama") and byte-level BPE ("gpt2")
// whose tokenizer.ggml.pre is known; others are refused by name. Texts are not normalised, as in llama.cpp.
// Null where the file holds none. It is copied as a tokenizer.model or tokenizer.json that gives the same
// ids.
std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const Path& path);

}  // namespace supra
