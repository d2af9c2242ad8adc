#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/file.h"
#include "supra/tokenizers/tokenizer.h"

namespace supra {

// Parts of a text on which models are compared. They are text and not ids, so that models with different vocabularies read the
// same.

// The text of a file. For JSON lines the "text" of each, for a text with a separator its documents, with an empty line between them.
// Throws Error if the file is compressed or has only white space.
std::string read_whole_text(const Path& file, const std::string& separator = "");

// At most `count` parts that do not overlap, at even distances. Each begins at the start of a line and has `tokens` ids of
// this tokenizer. A text that is too short for one such part is one part.
std::vector<std::string_view> text_parts(std::string_view text, const Tokenizer& tokenizer, int64_t tokens, int64_t count);

// Mean -log p of the predicted ids under their own frequencies: the loss of a model that only knows how often each id occurs in
// this text.
double frequency_nll(const std::vector<std::vector<int32_t>>& sequences);

}  // namespace supra
