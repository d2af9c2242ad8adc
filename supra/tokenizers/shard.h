#pragma once
#include <string>
#include <vector>

#include "supra/formats/file.h"
#include "supra/tokenizers/corpus.h"

// A shard: encoded documents in a file that is mapped, never read into memory. Little-endian:
//   header   ShardHeader (shard.cpp): magic, version, bytes of an id, tokens, documents, bytes of the text,
//            size and hash of the vocabulary, checksum of the rest of the file
//   ids      u16 if the vocabulary fits, else u32; zeros up to a multiple of 8. Each document is between the tokenizer's
//            document_marks(); a document that was cut off has no end mark
//   starts   u64, documents + 1: the first id of each document, and the end of the last

namespace supra {

// Writes a shard under a temporary name; finish() renames it, so the file is complete or absent.
class ShardWriter {
 public:
  ShardWriter(const Path& path, const Tokenizer& tokenizer);
  void add(const EncodedDocument& document);
  void finish();

  int64_t tokens() const { return static_cast<int64_t>(starts_.back()); }
  int64_t documents() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t text_bytes() const { return text_bytes_; }

 private:
  void write(std::string_view bytes);
  Path path_, temporary_;
  FileWriter out_;
  int32_t vocabulary_;
  uint32_t vocabulary_hash_, checksum_ = 0;
  std::vector<uint64_t> starts_ = {0};
  int64_t text_bytes_ = 0;
};

// By the first bytes. A file named *.bin counts as a shard too, so that a damaged one is refused and not read as text.
bool is_shard(const Path& path);

// Maps a shard. Throws Error if it is truncated, damaged, or made with another tokenizer.
Source read_shard(const Path& path, const Tokenizer& tokenizer);

}  // namespace supra
