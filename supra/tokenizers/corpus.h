#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "supra/tokenizers/tokenizer.h"
#include "tensor/file.h"
#include "tensor/parallel.h"

// What is trained on and measured on: documents as token ids, from text, JSON lines and shards.

namespace supra {

// The documents of a text: cut at `separator`, newlines at both ends stripped, empty ones left out. Without a
// separator the text is one document, untouched.
std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator);

// A document's ids, BOS in front where `bos` asks for it and the tokenizer has one. For scoring: no mark follows.
std::vector<int32_t> encode_document(const Tokenizer& tokenizer, std::string_view document, bool bos);

// Maps a text. Throws Error where it is compressed.
MappedFile open_text(const Path& file);

struct EncodedDocument {
  std::vector<int32_t> ids;
  int64_t text_bytes = 0;
  int64_t read = 0;  // bytes of the file up to its end
};

// The documents of a file in order, each between the tokenizer's document_marks(), encoded in parallel. The file
// is mapped and only some megabytes of it are worked on at a time, so that it may be larger than the memory; one
// document must fit. If `lines` is set, each line is a JSON object and its "text" is one document; `separator`
// is ignored. Throws Error naming the file, and the line, when there is nothing in it.
void encode_file(const Path& file, const Tokenizer& tokenizer, const std::string& separator, bool lines,
                 FunctionRef<void(const EncodedDocument&)> sink);

// The texts of JSON lines, one document each. Throws Error naming file and line.
std::vector<std::string> read_json_lines(const Path& file);

// Whether it is read as JSON lines: by its name, *.jsonl.
bool is_json_lines(const Path& file);

// The ids of encoded documents, one behind the other: in memory, or in a mapped shard. Copies share them.
class Source {
 public:
  // In memory; `starts` says where each document begins, and where the last one ends.
  Source(std::vector<int32_t> ids, std::vector<uint64_t> starts, int64_t text_bytes,
         Tokenizer::DocumentMarks marks);
  // Of `id_bytes` 2 or 4 each, kept alive by `owner`.
  Source(std::shared_ptr<const void> owner, const void* ids, int id_bytes, std::span<const uint64_t> starts,
         int64_t text_bytes, Tokenizer::DocumentMarks marks);

  int64_t tokens() const { return start(documents()); }
  int64_t documents() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t text_bytes() const { return text_bytes_; }
  int64_t start(int64_t document) const { return static_cast<int64_t>(starts_[document]); }
  // The last id of a document is `end`, unless it was cut off before it ended.
  const Tokenizer::DocumentMarks& marks() const { return marks_; }
  int32_t id(int64_t position) const {
    if (id_bytes_ == 2) return static_cast<const uint16_t*>(ids_)[position];
    return static_cast<const int32_t*>(ids_)[position];
  }

  double weight = 0;  // of its rows among those of all sources

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
  // Of all ids, where documents begin, and weights: what batches are a function of. Reads every id, a nanosecond each.
  uint64_t hash() const;
};

// A file to train on. `weight`: its part of the rows; 0: by its size.
struct DataFile {
  DataFile(Path file, double part = 0) : path(std::move(file)), weight(part) {}
  Path path;
  double weight;
};

// Each file is a shard (see shard.h), JSON lines or a text. Texts without a weight make one source together,
// every other file is one of its own. Throws Error where some files have a weight and others have none.
Corpus read_corpus(const std::vector<DataFile>& files, const Tokenizer& tokenizer,
                   const std::string& separator);

}  // namespace supra
