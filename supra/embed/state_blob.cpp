#include "supra/embed/state_blob.h"

#include <algorithm>
#include <cstring>

#include "supra/formats/config_json.h"

namespace supra {
namespace {

constexpr char kMagic[8] = {'S', 'U', 'P', 'R', 'A', 's', 't', 'a'};
constexpr uint32_t kVersion = 1;
constexpr uint32_t kHasText = 1, kHasLogits = 2;
// Enough for any text, and far from overflow.
constexpr int64_t kLastPosition = int64_t{1} << 53;

struct BlobHeader {
  char magic[8];
  uint32_t version, flags;
  uint64_t bytes;  // of the whole, checksum included
  Fingerprint model;
  int64_t position;
  uint64_t unfinished_bytes;
  char unfinished[8];
};
static_assert(sizeof(BlobHeader) == 88);

// Word after word, each step a bijection of what was before: whichever single word changes, so does the
// result.
class Hash {
 public:
  void add(uint64_t word) {
    value_ = (value_ ^ word) * 0x9fb21c651e98df25;
    value_ ^= value_ >> 32;
  }
  void add(const void* data, size_t bytes) {
    const char* p = static_cast<const char*>(data);
    for (; bytes >= 8; p += 8, bytes -= 8) add(word_at(p, 8));
    if (bytes > 0) add(word_at(p, bytes));
  }
  void add(const std::string& text) {
    add(text.size());
    add(text.data(), text.size());
  }
  uint64_t value() const { return value_; }

 private:
  static uint64_t word_at(const char* p, size_t bytes) {
    uint64_t word = 0;
    memcpy(&word, p, bytes);
    return word;
  }
  uint64_t value_ = 0x9e3779b97f4a7c15;
};

uint64_t checksum_of(const void* data, size_t bytes) {
  Hash hash;
  hash.add(data, bytes);
  return hash.value();
}

// Sixteen places of a tensor, evenly spread: training moves all of them.
void add_sample(Hash& hash, const Tensor& tensor) {
  constexpr size_t kPlaces = 16, kBytes = 64;
  const char* data = static_cast<const char*>(tensor.raw());
  const size_t bytes = tensor.bytes(), each = std::min(bytes, kBytes);
  for (size_t i = 0; i < kPlaces; i++) hash.add(data + (bytes - each) * i / (kPlaces - 1), each);
}

}  // namespace

Fingerprint fingerprint_of(Decoder& decoder, uint64_t state_floats) {
  Hash config, weights;
  Config described = decoder.config();
  // where it was read from changes nothing
  described.family.clear();
  config.add(describe(described).dump());
  Fingerprint model;
  decoder.visit([&](const std::string& path, Var& parameter) {
    const Tensor& tensor = parameter.value();
    weights.add(path + to_string(tensor.shape()) + name(tensor.dtype()));
    add_sample(weights, tensor);
    if (path == "tok_embeddings.weight") strncpy(model.dtype, name(tensor.dtype()), sizeof model.dtype - 1);
  });
  model.config = config.value();
  model.weights = weights.value();
  model.floats = state_floats;
  model.logits = static_cast<uint64_t>(decoder.config().vocab);
  return model;
}

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
        "these %zu bytes are no state of supra_save", bytes);
  CHECK(bytes >= sizeof header + sizeof(uint64_t), "the state is cut: %zu bytes do not hold its header",
        bytes);
  memcpy(&header, begin, sizeof header);
  CHECK(header.version == kVersion,
        "the state is of version %u, this library reads version %u (save it anew with the same library)",
        header.version, kVersion);
  CHECK(header.bytes == bytes, "the state is cut: it has %zu bytes, its header says %llu", bytes,
        static_cast<unsigned long long>(header.bytes));
  uint64_t checksum;
  memcpy(&checksum, begin + bytes - sizeof checksum, sizeof checksum);
  CHECK(checksum == checksum_of(begin, bytes - sizeof checksum),
        "the state is damaged: its checksum is another");

  const Fingerprint& its = header.model;
  const char* again = "load it into the model that saved it";
  CHECK(its.config == model.config && its.floats == model.floats && its.logits == model.logits,
        "the state is of another model, of another shape (%s)", again);
  CHECK(memcmp(its.dtype, model.dtype, sizeof its.dtype) == 0,
        "the state is of a model in %.8s, this one is in %.8s (%s)", its.dtype, model.dtype, again);
  CHECK(its.weights == model.weights,
        "the state is of another model, of the same shape with other weights (%s)", again);
  CHECK(bytes == blob_bytes(model) && header.position >= 0 && header.position <= kLastPosition &&
            header.unfinished_bytes < 4 && header.flags <= (kHasText | kHasLogits),
        "the state is damaged: its header cannot be");

  Snapshot s;
  s.position = header.position;
  s.has_text = header.flags & kHasText;
  const char* const unfinished = begin + offsetof(BlobHeader, unfinished);
  s.unfinished = {unfinished, header.unfinished_bytes};
  s.state = begin + sizeof header;
  if (header.flags & kHasLogits) s.logits = begin + sizeof header + model.floats * sizeof(float);
  return s;
}

}  // namespace supra
