#pragma once
#include <memory>

#include "supra/formats/model_files.h"
#include "supra/formats/parse/json.h"
#include "supra/tokenizers/json_tokenizer.h"

namespace supra {

// tokenizer.json of Hugging Face's tokenizers (github.com/huggingface/tokenizers): BPE and unigram with any normalizers,
// pre-tokenizers, added tokens, templates and decoders. Unknown parts that would change ids are refused by name. BOS
// and EOS are in tokenizer_config.json beside it (tokenizer_config.h).
std::shared_ptr<const Tokenizer> make_json_tokenizer(const MappedFile& file, const ModelFiles& beside);

// The same from JSON, which may be built from another file: then `marks` are that file's, and `files` makes the files to copy.
std::shared_ptr<const Tokenizer> make_json_tokenizer(const Json& json, const char* kind, TokenizerConfig beside,
                                                     const Tokenizer::Marks* marks = nullptr, JsonTokenizer::Files files = nullptr);

// GPT-2's two files: a vocabulary in JSON, and the merges, one per line.
std::shared_ptr<const Tokenizer> make_gpt2_tokenizer(const MappedFile& vocabulary, const MappedFile& merges);

}  // namespace supra
