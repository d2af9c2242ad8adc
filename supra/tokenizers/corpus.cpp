#include "supra/tokenizers/corpus.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "supra/formats/parse/json.h"
#include "supra/tokenizers/shard.h"
#include "tensor/error.h"

namespace supra {

static std::string_view strip_newlines(std::string_view text) {
  const size_t begin = text.find_first_not_of("\r\n");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of("\r\n") - begin + 1);
}

// The document at `at`, which moves to the end of its separator. May be empty.
static std::string_view cut_document(std::string_view text, std::string_view separator, size_t& at) {
  const size_t begin = at;
  at = separator.empty() ? text.size() : std::min(text.find(separator, begin), text.size());
  const std::string_view document = text.substr(begin, at - begin);
  at = std::min(at + separator.size(), text.size());
  return separator.empty() ? document : strip_newlines(document);
}

std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator) {
  std::vector<std::string_view> documents;
  for (size_t at = 0; at < text.size();) {
    const std::string_view document = cut_document(text, separator, at);
    if (!document.empty()) documents.push_back(document);
  }
  return documents;
}

std::vector<int32_t> encode_document(const Tokenizer& tokenizer, std::string_view document, bool bos) {
  std::vector<int32_t> ids = tokenizer.encode(document, {.parse_special = true});
  if (bos && tokenizer.bos() >= 0) ids.insert(ids.begin(), tokenizer.bos());
  return ids;
}

MappedFile open_text(const Path& path) {
  const MappedFile file(path);
  CHECK(!file.text().starts_with("\x1f\x8b"), "%s: is compressed by gzip (gunzip it and give what comes out)", path.c_str());
  return file;
}

// A document's ids for training.
static std::vector<int32_t> encode_with_marks(const Tokenizer& tokenizer, std::string_view document) {
  const Tokenizer::DocumentMarks marks = tokenizer.document_marks();
  std::vector<int32_t> ids = encode_document(tokenizer, document, marks.begin >= 0);
  if (marks.end >= 0) ids.push_back(marks.end);
  return ids;
}

static bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == line.npos; }

static std::string text_of_line(std::string_view row, const Path& path, int64_t line) {
  return Json::parse(row, format("%s:%ld", path.c_str(), static_cast<long>(line))).text("text");
}

bool is_json_lines(const Path& file) { return file.extension() == ".jsonl"; }

std::vector<std::string> read_json_lines(const Path& path) {
  const MappedFile file = open_text(path);
  std::vector<std::string> texts;
  int64_t line = 0;
  for (size_t at = 0; at < file.size();) {
    const std::string_view row = cut_document(file.text(), "\n", at);
    line++;
    if (is_blank(row)) continue;
    texts.push_back(text_of_line(row, path, line));
  }
  return texts;
}

void encode_file(const Path& path, const Tokenizer& tokenizer, const std::string& separator, bool lines,
                 FunctionRef<void(const EncodedDocument&)> sink) {
  // enough to keep all threads busy, and little memory compared with a vocabulary
  constexpr size_t kBlockBytes = 8 << 20;
  struct Raw {
    std::string_view text;
    int64_t line;
    size_t end;
  };
  const MappedFile file = open_text(path);
  const std::string_view text = file.text();
  std::vector<Raw> block;
  std::vector<EncodedDocument> encoded;
  int64_t line = 0, documents = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t block_begin = at;
    block.clear();
    while (at < text.size() && at - block_begin < kBlockBytes) {
      const std::string_view raw = cut_document(text, lines ? "\n" : separator, at);
      line++;
      const bool blank = lines ? is_blank(raw) : raw.empty();
      if (!blank) block.push_back({raw, line, at});
    }
    encoded.assign(block.size(), {});
    parallel_for(static_cast<int64_t>(block.size()), 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const Raw& raw = block[i];
        std::string own;
        if (lines) own = text_of_line(raw.text, path, raw.line);
        const std::string_view document = lines ? own : raw.text;
        encoded[i] = {encode_with_marks(tokenizer, document), static_cast<int64_t>(document.size()),
                      static_cast<int64_t>(raw.end)};
      }
    });
    for (const EncodedDocument& document : encoded) {
      // the text of a line may be empty: there is nothing to learn from
      if (document.text_bytes == 0) continue;
      sink(document);
      documents++;
    }
  }
  CHECK(documents > 0, "%s: contains no text", path.c_str());
}

Source::Source(std::shared_ptr<const void> owner, const void* ids, int id_bytes, std::span<const uint64_t> starts,
               int64_t text_bytes, Tokenizer::DocumentMarks marks)
    : owner_(std::move(owner)), ids_(ids), id_bytes_(id_bytes), starts_(starts), text_bytes_(text_bytes), marks_(marks) {}

Source::Source(std::vector<int32_t> ids, std::vector<uint64_t> starts, int64_t text_bytes, Tokenizer::DocumentMarks marks)
    : id_bytes_(4), text_bytes_(text_bytes), marks_(marks) {
  const auto own = std::make_shared<const std::pair<std::vector<int32_t>, std::vector<uint64_t>>>(
      std::move(ids), std::move(starts));
  owner_ = own;
  ids_ = own->first.data();
  starts_ = own->second;
}

template <class F>
static int64_t sum(const std::vector<Source>& sources, F of) {
  int64_t n = 0;
  for (const Source& source : sources) n += (source.*of)();
  return n;
}

int64_t Corpus::tokens() const { return sum(sources, &Source::tokens); }
int64_t Corpus::documents() const { return sum(sources, &Source::documents); }
int64_t Corpus::text_bytes() const { return sum(sources, &Source::text_bytes); }

uint64_t Corpus::hash() const {
  // FNV-1a of whole numbers
  uint64_t hash = 0xcbf29ce484222325;
  const auto add = [&](uint64_t number) { hash = (hash ^ number) * 0x100000001b3; };
  for (const Source& source : sources) {
    add(std::bit_cast<uint64_t>(source.weight));
    for (int64_t d = 0; d <= source.documents(); d++) add(static_cast<uint64_t>(source.start(d)));
    for (int64_t i = 0; i < source.tokens(); i++) add(static_cast<uint64_t>(source.id(i)));
  }
  return hash;
}

// Encodes texts into memory.
static Source read_texts(const std::vector<Path>& files, const Tokenizer& tokenizer, const std::string& separator) {
  std::vector<int32_t> ids;
  std::vector<uint64_t> starts = {0};
  int64_t bytes = 0;
  for (const Path& path : files) {
    encode_file(path, tokenizer, separator, is_json_lines(path), [&](const EncodedDocument& document) {
      ids.insert(ids.end(), document.ids.begin(), document.ids.end());
      starts.push_back(ids.size());
      bytes += document.text_bytes;
    });
  }
  return Source(std::move(ids), std::move(starts), bytes, tokenizer.document_marks());
}

Corpus read_corpus(const std::vector<DataFile>& files, const Tokenizer& tokenizer, const std::string& separator) {
  CHECK(!files.empty(), "training data: there is no file");
  Corpus corpus;
  std::vector<Path> texts;
  for (const DataFile& file : files) {
    CHECK(std::isfinite(file.weight) && file.weight >= 0 && (file.weight > 0) == (files[0].weight > 0),
          "%s: has the weight %g, %s has %g (give each file a weight above 0, or none of them)",
          file.path.c_str(), file.weight, files[0].path.c_str(), files[0].weight);
    const bool shard = is_shard(file.path);
    if (!shard && file.weight == 0) {
      texts.push_back(file.path);
      continue;
    }
    corpus.sources.push_back(shard ? read_shard(file.path, tokenizer)
                                   : read_texts({file.path}, tokenizer, separator));
    corpus.sources.back().weight = file.weight;
  }
  if (!texts.empty()) corpus.sources.push_back(read_texts(texts, tokenizer, separator));
  for (Source& source : corpus.sources) {
    if (source.weight == 0) source.weight = static_cast<double>(source.tokens());
  }
  return corpus;
}

}  // namespace supra
