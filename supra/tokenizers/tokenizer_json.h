#pragma once
#include <memory>
#include <string_view>

#include "supra/formats/model_files.h"
#include "supra/tokenizers/bpe_tokenizer.h"

namespace supra {

// tokenizer.json of Hugging Face's tokenizers (github.com/huggingface/tokenizers): byte-level BPE of GPT-2,
// Llama 3, Qwen2, GPT-NeoX and SmolLM, and BPE on characters as Llama 2's. What would change ids and is not
// known is refused by name. BOS and EOS are in tokenizer_config.json beside it (tokenizer_config.h).
std::shared_ptr<const Tokenizer> make_json_tokenizer(const MappedFile& file, const ModelFiles& beside);

// GPT-2's two files: a vocabulary in JSON and the merges, a line each.
std::shared_ptr<const Tokenizer> make_gpt2_tokenizer(const MappedFile& vocabulary, const MappedFile& merges);

// The bytes that a piece of a byte-level vocabulary stands for: such files write a byte that is no printable
// ASCII or Latin 1 character as one from U+0100 on.
std::string bytes_of_piece(std::string_view piece);

// Adds the merge "left right". Throws Error naming `where` for a text that is none.
void add_merge_line(BpeVocabulary& vocabulary, std::string_view merge, const std::string& where);

}  // namespace supra
