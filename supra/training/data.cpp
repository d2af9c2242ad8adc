#include "supra/training/data.h"

#include <numeric>
#include <utility>

#include "tensor/parallel.h"
#include "tensor/random.h"

namespace supra {

static std::string_view strip_newlines(std::string_view text) {
  const size_t begin = text.find_first_not_of("\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of("\r\n") - begin + 1);
}

std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator) {
  if (separator.empty()) return {text};
  std::vector<std::string_view> documents;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(separator, begin), text.size());
    const std::string_view document = strip_newlines(text.substr(begin, end - begin));
    if (!document.empty()) documents.push_back(document);
    begin = end + separator.size();
  }
  return documents;
}

std::vector<int32_t> encode_document(const Tokenizer& tokenizer, std::string_view document, bool bos) {
  std::vector<int32_t> ids = tokenizer.encode(document, {.parse_special = true});
  if (bos && tokenizer.bos() >= 0) ids.insert(ids.begin(), tokenizer.bos());
  return ids;
}

Corpus read_corpus(const std::vector<Path>& files, const Tokenizer& tokenizer, const std::string& separator) {
  Corpus corpus;
  for (const Path& path : files) {
    const MappedFile file(path);
    const std::vector<std::string_view> documents = split_documents(file.text(), separator);
    CHECK(file.size() > 0 && !documents.empty(), "%s: there is no text in it", path.c_str());
    std::vector<std::vector<int32_t>> encoded(documents.size());
    parallel_for(static_cast<int64_t>(documents.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) encoded[i] = encode_document(tokenizer, documents[i], true);
    });
    for (const auto& ids : encoded) {
      corpus.starts.push_back(static_cast<int64_t>(corpus.ids.size()));
      corpus.ids.insert(corpus.ids.end(), ids.begin(), ids.end());
    }
    for (const std::string_view document : documents) corpus.bytes += static_cast<int64_t>(document.size());
  }
  corpus.starts.push_back(static_cast<int64_t>(corpus.ids.size()));
  return corpus;
}

BatchLoader::BatchLoader(const Corpus& corpus, int64_t rows, int64_t T, uint64_t seed)
    : corpus_(corpus), rows_(rows), T_(T), seed_(seed) {
  CHECK(corpus.ids.size() >= 2, "training data: %zu tokens, at least 2 are needed (give more text with --data)", corpus.ids.size());
}

void BatchLoader::load_epoch(int64_t epoch) {
  std::vector<int64_t> order(corpus_.documents());
  std::iota(order.begin(), order.end(), int64_t{0});
  // Fisher-Yates, from a stream of random numbers that belongs to this epoch
  Philox random(seed_, 1000 + static_cast<uint64_t>(epoch));
  for (size_t i = order.size(); i > 1; i--) std::swap(order[i - 1], order[random.below(i)]);
  stream_.clear();
  for (int64_t d : order) {
    stream_.insert(stream_.end(), corpus_.ids.begin() + corpus_.starts[d], corpus_.ids.begin() + corpus_.starts[d + 1]);
  }
  epoch_ = epoch;
}

int32_t BatchLoader::at(int64_t position) {
  const int64_t length = static_cast<int64_t>(corpus_.ids.size());
  if (position / length != epoch_) load_epoch(position / length);
  return stream_[position % length];
}

Batch BatchLoader::next() {
  Batch batch{Tensor::empty({rows_, T_}, Dtype::i32), Tensor::empty({rows_, T_}, Dtype::i32)};
  int32_t *tokens = batch.tokens.data<int32_t>(), *targets = batch.targets.data<int32_t>();
  const int64_t n = rows_ * T_;
  int32_t here = at(position_);
  for (int64_t i = 0; i < n; i++) {
    const int32_t after = at(position_ + i + 1);
    tokens[i] = here;
    targets[i] = here = after;
  }
  position_ += n;
  return batch;
}

}  // namespace supra
