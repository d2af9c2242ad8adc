#include "supra/embed/state_blob.h"

#include <cstring>

#include "supra/formats/state_file.h"
#include "tensor/error.h"

namespace supra {
namespace {

constexpr char kMagic[8] = {'S', 'U', 'P', 'R', 'A', 's', 't', 'a'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kHasText = 1, kHasLogits = 2;

struct BlobHeader {
  char magic[8];
  uint32_t version, flags;
  uint64_t bytes;  // of the whole blob with the checksum
  Fingerprint model;
  int64_t position;
  uint64_t unfinished_bytes;
  char unfinished[8];
};
static_assert(sizeof(BlobHeader) == 88);

uint64_t checksum_of(const void* data, size_t bytes) {
  Hash hash;
  hash.add(data, bytes);
  return hash.value();
}

}  // namespace

size_t blob_bytes(const Fingerprint& model) {
  return sizeof(BlobHeader) + (model.floats + model.logits) * sizeof(float) + sizeof(uint64_t);
}

void seal_blob(void* blob, size_t bytes) {
  const size_t end = bytes - sizeof(uint64_t);
  const uint64_t checksum = checksum_of(blob, end);
  memcpy(static_cast<char*>(blob) + end, &checksum, sizeof checksum);
}

void write_blob(const Fingerprint& model, const Snapshot& s, void* to) {
  BlobHeader header = {};
  memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.flags = (s.has_text ? kHasText : 0) | (s.logits ? kHasLogits : 0);
  header.bytes = blob_bytes(model);
  header.model = model;
  header.position = s.position;
  header.unfinished_bytes = s.unfinished.size();
  memcpy(header.unfinished, s.unfinished.data(), s.unfinished.size());

  char* const begin = static_cast<char*>(to);
  char* const state = begin + sizeof header;
  char* const logits = state + model.floats * sizeof(float);
  memcpy(begin, &header, sizeof header);
  memcpy(state, s.state, model.floats * sizeof(float));
  if (s.logits)
    memcpy(logits, s.logits, model.logits * sizeof(float));
  else
    memset(logits, 0, model.logits * sizeof(float));
  seal_blob(begin, header.bytes);
}

Snapshot read_blob(const Fingerprint& model, const void* from, size_t bytes) {
  const char* const begin = static_cast<const char*>(from);
  BlobHeader header;
  CHECK(bytes >= sizeof kMagic && memcmp(begin, kMagic, sizeof kMagic) == 0,
        "these %zu bytes are not a state from supra_save", bytes);
  CHECK(bytes >= sizeof header + sizeof(uint64_t), "the state is cut short: %zu bytes are less than its header",
        bytes);
  memcpy(&header, begin, sizeof header);
  CHECK(header.version == kVersion,
        "the state is of version %u, this library reads version %u (save it again with this library)",
        header.version, kVersion);
  CHECK(header.bytes == bytes, "the state is cut short: it has %zu bytes, its header says %llu", bytes,
        static_cast<unsigned long long>(header.bytes));
  uint64_t checksum;
  memcpy(&checksum, begin + bytes - sizeof checksum, sizeof checksum);
  CHECK(checksum == checksum_of(begin, bytes - sizeof checksum),
        "the state is damaged: its checksum does not match");

  const Fingerprint& its = header.model;
  const char* again = "load it into the model that saved it";
  CHECK(its.config == model.config && its.floats == model.floats && its.logits == model.logits,
        "the state is of a model with another shape (%s)", again);
  CHECK(memcmp(its.dtype, model.dtype, sizeof its.dtype) == 0,
        "the state is of a model in %.8s, this one is in %.8s (%s)", its.dtype, model.dtype, again);
  CHECK(its.weights == model.weights,
        "the state is of a model with the same shape and other weights (%s)", again);
  CHECK(bytes == blob_bytes(model) && header.position >= 0 && header.position <= kLastPosition &&
            header.unfinished_bytes < 4 && header.flags <= (kHasText | kHasLogits),
        "the state is damaged: its header has impossible values");

  Snapshot s;
  s.position = header.position;
  s.has_text = header.flags & kHasText;
  const char* const unfinished = begin + offsetof(BlobHeader, unfinished);
  s.unfinished = {unfinished, static_cast<size_t>(header.unfinished_bytes)};
  s.state = begin + sizeof header;
  if (header.flags & kHasLogits) s.logits = begin + sizeof header + model.floats * sizeof(float);
  return s;
}

}  // namespace supra
