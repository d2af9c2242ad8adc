#pragma once
#include <memory>

#include "supra/tokenizers/tokenizer.h"

namespace supra {

// The vocabulary inside a GGUF (keys tokenizer.*): SentencePiece BPE ("llama"), and byte-level BPE ("gpt2") if its
// tokenizer.ggml.pre is known; others are refused by name. As in llama.cpp, texts are not normalised. Null if the file has
// none. copy_tokenizer() writes a tokenizer.model or tokenizer.json that gives the same ids.
std::shared_ptr<const Tokenizer> make_gguf_tokenizer(const Path& path);

}  // namespace supra
