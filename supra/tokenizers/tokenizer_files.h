#pragma once

namespace supra {

// The names of the files that copy_tokenizer() may write, of any kind of tokenizer.
inline constexpr const char* kTokenizerFiles[] = {
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json", "chat_template.jinja",
    "vocab.json",     "merges.txt",            "tokenizer.bytes",         "tokenizer.bin",          "tokenizer.model"};

}  // namespace supra
