#pragma once
#include <string>
#include <vector>

#include "supra/tokenizers/tokenizer.h"

namespace supra {

// What stands beside a tokenizer of Hugging Face's kind and belongs to it.
struct TokenizerConfig {
  std::vector<Tokenizer::File> files;  // all of it, to be copied with the tokenizer
  std::string text;                    // of tokenizer_config.json; "" where there is none
  // chat_template.jinja, or else the one in tokenizer_config.json, as transformers reads them; "" for none.
  // The folder additional_chat_templates/ is not read.
  std::string chat_template;
  std::vector<std::string> strips_right;  // added tokens that take the white space behind them (rstrip)
  std::vector<int32_t> ends;  // the eos_token_id of generation_config.json: one or several
};

// Throws Error naming file and line where one of the files is damaged.
TokenizerConfig read_tokenizer_config(const ModelFiles& beside);

}  // namespace supra
