#pragma once
#include <string>
#include <vector>

#include "supra/tokenizers/tokenizer.h"

namespace supra {

// The files that belong to a tokenizer of Hugging Face's kind.
struct TokenizerConfig {
  std::vector<Tokenizer::File> files;  // all of them, to be copied with the tokenizer
  std::string text;                    // of tokenizer_config.json; "" if there is none
  std::string path;                    // of tokenizer_config.json, for errors
  // chat_template.jinja, or else the one in tokenizer_config.json, as in transformers; "": none. The folder
  // additional_chat_templates/ is not read.
  std::string chat_template;
  std::vector<std::string> strips_right;  // added tokens that include the white space after them (rstrip)
  std::vector<int32_t> ends;  // the eos_token_id of generation_config.json: one or several
};

// Throws Error with file and line if a file is damaged.
TokenizerConfig read_tokenizer_config(const ModelFiles& beside);

}  // namespace supra
