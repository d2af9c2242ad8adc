#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/tokenizer.h"
#include "tensor/file.h"

namespace supra {

// Parts of a text on which models are compared. They are parts of the text and not ids, so that models of other vocabularies
// read the same.

// A whole file; of JSON lines the "text" of each, of a text with a separator its documents, an empty line between them. Throws Error
// where it is compressed, or holds nothing but white space.
std::string read_whole_text(const Path& file, const std::string& separator = "");

// At most `count` parts that do not overlap, at even distances. Each begins where a line does and ends where the tokenizer
// has `tokens` ids of it; a text too short for one such part is one part.
std::vector<std::string_view> text_parts(std::string_view text, const Tokenizer& tokenizer, int64_t tokens, int64_t count);

// Mean -log p of the predicted ids by their own frequencies: what a model reaches that knows how often each occurs in this
// text and nothing of what stands before it.
double frequency_nll(const std::vector<std::vector<int32_t>>& sequences);

}  // namespace supra
