#pragma once
#include <span>
#include <string>
#include <vector>

#include "supra/tokenizers/corpus.h"
#include "tensor/file.h"

// A shard: encoded documents in a file that is mapped, never read into memory. Little-endian:
//   header   ShardHeader (shard.cpp): magic, version, bytes of an id, tokens, documents, bytes of the text,
//            size and hash of the vocabulary, checksum of all the rest of the file
//   ids      u16 where the vocabulary fits, else u32; zeros up to a multiple of 8. A document stands between the
//            tokenizer's document_marks(); one that was cut off before it ended has no end
//   starts   u64, documents + 1: where each document begins among the ids, and where the last one ends

namespace supra {

// Writes one. The file is complete or absent: it is written beside its name and renamed by finish().
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

// By its first bytes; a file named *.bin is taken for one too, so that a damaged one is refused and not read
// as a text.
bool is_shard(const Path& path);

// Maps one. Throws Error naming the file where it is truncated, damaged, or made with other pieces than the
// tokenizer's.
Source read_shard(const Path& path, const Tokenizer& tokenizer);

}  // namespace supra
