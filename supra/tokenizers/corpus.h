#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supra/formats/file.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/parallel.h"

// The data of training and evaluation: documents as token ids, from text, JSON lines and shards.

namespace supra {

// The documents of a text: cut at `separator`, without newlines at both ends, without empty ones. If the separator is empty,
// the whole text is one document.
std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator);

// A document's ids for scoring: with BOS first if `bos` is set and the tokenizer has one, and no mark at the end.
std::vector<int32_t> encode_document(const Tokenizer& tokenizer, std::string_view document, bool bos);

// Maps a text. Throws Error if it is compressed.
MappedFile open_text(const Path& file);

struct EncodedDocument {
  std::vector<int32_t> ids;
  int64_t text_bytes = 0;
  int64_t read = 0;  // bytes of the file up to the end of the document
};

// Encodes the documents of a file in parallel, each between the tokenizer's document_marks(), and calls `sink` in their order.
// The file is mapped and encoded a few megabytes at a time, so it may be larger than memory; each document must fit. If `lines`
// is set, each line is a JSON object and its "text" is one document; `separator` is ignored. Throws Error if there is no text.
void encode_file(const Path& file, const Tokenizer& tokenizer, const std::string& separator, bool lines,
                 FunctionRef<void(const EncodedDocument&)> sink);

// The texts of JSON lines, one document each. Throws Error naming file and line.
std::vector<std::string> read_json_lines(const Path& file);

// Whether the file's name ends in .jsonl.
bool is_json_lines(const Path& file);

// The ids of encoded documents, one after the other, in memory or in a mapped shard. Copies share them.
class Source {
 public:
  // In memory. `starts`: the first id of each document, and the end of the last.
  Source(std::vector<int32_t> ids, std::vector<uint64_t> starts, int64_t text_bytes,
         Tokenizer::DocumentMarks marks);
  // Ids of 2 or 4 bytes, kept alive by `owner`.
  Source(std::shared_ptr<const void> owner, const void* ids, int id_bytes, std::span<const uint64_t> starts,
         int64_t text_bytes, Tokenizer::DocumentMarks marks);

  int64_t tokens() const { return start(documents()); }
  int64_t documents() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t text_bytes() const { return text_bytes_; }
  int64_t start(int64_t document) const { return static_cast<int64_t>(starts_[document]); }
  // The last id of a document is `end`, unless the document was cut off.
  const Tokenizer::DocumentMarks& marks() const { return marks_; }
  int32_t id(int64_t position) const {
    if (id_bytes_ == 2) return static_cast<const uint16_t*>(ids_)[position];
    return static_cast<const int32_t*>(ids_)[position];
  }

  double weight = 0;  // the share of its rows among those of all sources

 private:
  std::shared_ptr<const void> owner_;
  const void* ids_;
  int id_bytes_;
  std::span<const uint64_t> starts_;
  int64_t text_bytes_;
  Tokenizer::DocumentMarks marks_;
};

struct Corpus {
  std::vector<Source> sources;

  int64_t tokens() const;
  int64_t documents() const;
  int64_t text_bytes() const;
  // A hash of all ids, document starts and weights, which determine the batches. Takes a nanosecond per id.
  uint64_t hash() const;
};

// A file of training data. `weight`: its share of the rows; 0: by its size.
struct DataFile {
  DataFile(Path file, double part = 0) : path(std::move(file)), weight(part) {}
  Path path;
  double weight;
};

// Each file is a shard (shard.h), JSON lines or a text. All texts without a weight make one source, every other file another
// one. Throws Error if only some files have a weight.
Corpus read_corpus(const std::vector<DataFile>& files, const Tokenizer& tokenizer, const std::string& separator);

}  // namespace supra
