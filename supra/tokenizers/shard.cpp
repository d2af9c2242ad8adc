#include "supra/tokenizers/shard.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "supra/formats/parse/crc32.h"
#include "tensor/error.h"

namespace supra {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

struct ShardHeader {
  char magic[8] = {};
  uint32_t version = 0, id_bytes = 0;
  uint64_t tokens = 0, documents = 0, text_bytes = 0;
  uint32_t vocabulary = 0, vocabulary_hash = 0;
  uint32_t zero = 0, checksum = 0;  // CRC-32 of everything after the header, then of the header up to here
};
static_assert(sizeof(ShardHeader) == 56);

constexpr std::string_view kMagic = "SUPRAIDS";
// In version 1 documents had no end mark.
constexpr uint32_t kVersion = 2;

static uint32_t checksum_of(const ShardHeader& header, uint32_t checksum_behind) {
  return crc32(checksum_behind, {reinterpret_cast<const char*>(&header), offsetof(ShardHeader, checksum)});
}

static int id_bytes_of(int64_t vocabulary) { return vocabulary <= 1 << 16 ? 2 : 4; }

// A hash of all pieces with their lengths and of the document marks, which determine the ids.
static uint32_t vocabulary_hash(const Tokenizer& tokenizer) {
  const Tokenizer::DocumentMarks marks = tokenizer.document_marks();
  uint32_t hash = crc32(0, std::to_string(marks.begin) + "," + std::to_string(marks.end));
  for (int32_t id = 0; id < tokenizer.size(); id++) {
    const std::string piece = tokenizer.is_special(id) ? tokenizer.mark_text(id) : tokenizer.piece(id);
    hash = crc32(hash, std::to_string(piece.size()) + ":" + piece);
  }
  return hash;
}

ShardWriter::ShardWriter(const Path& path, const Tokenizer& tokenizer)
    : path_(path),
      temporary_(temporary_path(path)),
      out_(temporary_),
      vocabulary_(tokenizer.size()),
      vocabulary_hash_(vocabulary_hash(tokenizer)) {
  out_.write(std::string(sizeof(ShardHeader), '\0'));
}

template <class T>
static std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

void ShardWriter::write(std::string_view bytes) {
  checksum_ = crc32(checksum_, bytes);
  out_.write(bytes);
}

void ShardWriter::add(const EncodedDocument& document) {
  const std::vector<int32_t>& ids = document.ids;
  if (id_bytes_of(vocabulary_) == 2) {
    const std::vector<uint16_t> narrow(ids.begin(), ids.end());
    write(bytes_of(narrow));
  } else {
    write(bytes_of(ids));
  }
  starts_.push_back(starts_.back() + ids.size());
  text_bytes_ += document.text_bytes;
}

void ShardWriter::finish() {
  const uint32_t id_bytes = id_bytes_of(vocabulary_);
  write(std::string(-(starts_.back() * id_bytes) % 8, '\0'));
  write(bytes_of(starts_));
  ShardHeader header = {.version = kVersion,
                        .id_bytes = id_bytes,
                        .tokens = starts_.back(),
                        .documents = starts_.size() - 1,
                        .text_bytes = static_cast<uint64_t>(text_bytes_),
                        .vocabulary = static_cast<uint32_t>(vocabulary_),
                        .vocabulary_hash = vocabulary_hash_};
  kMagic.copy(header.magic, sizeof header.magic);
  header.checksum = checksum_of(header, checksum_);
  out_.write_at(0, {reinterpret_cast<const char*>(&header), sizeof header});
  out_.finish();
  replace_file(temporary_, path_);
}

bool is_shard(const Path& path) {
  return path.extension() == ".bin" || MappedFile(path).text().starts_with(kMagic);
}

Source read_shard(const Path& path, const Tokenizer& tokenizer) {
  const MappedFile file(path);
  const char* again = "make it again with supra tokenize -o";
  ShardHeader header;
  file.text().copy(reinterpret_cast<char*>(&header), sizeof header);
  CHECK(file.text().starts_with(kMagic), "%s: is not a shard, it does not begin with %s (%s)", path.c_str(), kMagic.data(), again);
  CHECK(header.version == kVersion, "%s: is a shard of version %u%s, %u is known (%s)", path.c_str(),
        header.version, header.version == 1 ? ", without end marks of documents" : "", kVersion, again);
  CHECK(header.id_bytes == 2 || header.id_bytes == 4,
        "%s: ids of %u bytes at offset 12, 2 or 4 are known (%s)", path.c_str(), header.id_bytes, again);
  uint64_t starts_at = 0, size = 0;
  const bool overflow = __builtin_mul_overflow(header.tokens, header.id_bytes, &starts_at) ||
                        __builtin_add_overflow(starts_at, sizeof header + 7, &starts_at) ||
                        __builtin_add_overflow(header.documents, 1, &size) ||
                        __builtin_mul_overflow(size, 8, &size) ||
                        __builtin_add_overflow(size, starts_at &= ~uint64_t{7}, &size);
  CHECK(!overflow && size == file.size(),
        "%s: has %zu bytes, which does not fit its %lu tokens in %lu documents (%s)", path.c_str(),
        file.size(), header.tokens, header.documents, again);
  CHECK(checksum_of(header, crc32(0, file.text().substr(sizeof header))) == header.checksum,
        "%s: is damaged, its checksum does not match (%s)", path.c_str(), again);
  const std::span<const uint64_t> starts(reinterpret_cast<const uint64_t*>(file.data() + starts_at), header.documents + 1);
  CHECK(starts.front() == 0 && starts.back() == header.tokens && std::is_sorted(starts.begin(), starts.end()),
        "%s: the starts of documents at offset %lu are not in order (%s)", path.c_str(), starts_at, again);
  CHECK(static_cast<uint32_t>(tokenizer.size()) == header.vocabulary && vocabulary_hash(tokenizer) == header.vocabulary_hash,
        "%s: was made with another tokenizer: %u pieces with the hash %08x, this %s has %d with %08x (%s and "
        "this one)",
        path.c_str(), header.vocabulary, header.vocabulary_hash, tokenizer.kind(), tokenizer.size(),
        vocabulary_hash(tokenizer), again);
  return Source(file.owner(), file.data() + sizeof header, static_cast<int>(header.id_bytes), starts,
                static_cast<int64_t>(header.text_bytes), tokenizer.document_marks());
}

}  // namespace supra
