#include "supra/evaluation/text_sample.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "supra/tokenizers/corpus.h"
#include "supra/tokenizers/shard.h"
#include "tensor/error.h"

namespace supra {

std::string read_whole_text(const Path& file, const std::string& separator) {
  CHECK(!is_shard(file), "%s: is a shard, or has the name of one; only text and .jsonl can be scored (give the file that the shard was made from)",
        file.c_str());
  std::string text;
  const auto add = [&](std::string_view document) {
    if (!text.empty()) text += "\n\n";
    text += document;
  };
  if (is_json_lines(file)) {
    for (const std::string& document : read_json_lines(file)) add(document);
  } else {
    const MappedFile mapped = open_text(file);
    for (const std::string_view document : split_documents(mapped.text(), separator)) add(document);
  }
  CHECK(text.find_first_not_of(" \t\r\n") != std::string::npos,
        "%s: has no text (--text names one that the models were not trained on)", file.c_str());
  return text;
}

// The beginning of a text with this many ids, or all of it if it has fewer.
static std::string_view beginning(std::string_view text, const Tokenizer& tokenizer, int64_t tokens) {
  // a token is rarely longer; otherwise the part becomes a little shorter
  constexpr size_t kMostBytes = 16;
  const std::string_view most = text.substr(0, static_cast<size_t>(tokens) * kMostBytes);
  const std::vector<int32_t> ids = tokenizer.encode(most);
  if (static_cast<int64_t>(ids.size()) <= tokens) return most;
  size_t bytes = 0;
  for (int64_t i = 0; i < tokens; i++) bytes += tokenizer.piece(ids[i], i == 0).size();
  bytes = std::min(bytes, most.size());
  // does not cut a character
  while (bytes > 1 && bytes < most.size() && (most[bytes] & 0xc0) == 0x80) bytes--;
  return most.substr(0, bytes);
}

std::vector<std::string_view> text_parts(std::string_view text, const Tokenizer& tokenizer, int64_t tokens, int64_t count) {
  const std::string_view first = beginning(text, tokenizer, tokens);
  // later parts may have longer tokens
  const int64_t fit = static_cast<int64_t>(static_cast<double>(text.size()) / (1.25 * static_cast<double>(first.size())));
  count = std::clamp<int64_t>(fit, 1, count);
  std::vector<std::string_view> parts;
  for (int64_t i = 0; i < count; i++) {
    const auto place = [&](int64_t part) {
      return static_cast<size_t>(static_cast<double>(text.size()) * static_cast<double>(part) / static_cast<double>(count));
    };
    const size_t end = place(i + 1), line = text.find('\n', place(i));
    // a line that is longer than a part is cut
    size_t begin = i == 0 ? 0 : line < end ? line + 1 : place(i);
    while (begin < end && (text[begin] & 0xc0) == 0x80) begin++;
    if (begin < end) parts.push_back(beginning(text.substr(begin, end - begin), tokenizer, tokens));
  }
  return parts;
}

double frequency_nll(const std::vector<std::vector<int32_t>>& sequences) {
  std::map<int32_t, int64_t> counts;
  int64_t n = 0;
  for (const auto& ids : sequences) {
    for (size_t i = 1; i < ids.size(); i++) counts[ids[i]]++, n++;
  }
  double sum = 0;
  for (const auto& [id, times] : counts) sum += static_cast<double>(times) * std::log(static_cast<double>(n) / static_cast<double>(times));
  return n > 0 ? sum / static_cast<double>(n) : 0;
}

}  // namespace supra
