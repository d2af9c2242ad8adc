#include "supra/formats/fingerprint.h"

#include <algorithm>
#include <cstring>

#include "supra/formats/config/config_json.h"

namespace supra {

static uint64_t word_at(const char* p, size_t bytes) {
  uint64_t word = 0;
  memcpy(&word, p, bytes);
  return word;
}

void Hash::add(const void* data, size_t bytes) {
  const char* p = static_cast<const char*>(data);
  for (; bytes >= 8; p += 8, bytes -= 8) add(word_at(p, 8));
  if (bytes > 0) add(word_at(p, bytes));
}

void Hash::add(const std::string& text) {
  add(text.size());
  add(text.data(), text.size());
}

// Adds bytes from sixteen evenly spaced places of a tensor.
static void add_sample(Hash& hash, const Tensor& tensor) {
  constexpr size_t kPlaces = 16, kBytes = 64;
  const char* data = static_cast<const char*>(tensor.raw());
  const size_t bytes = tensor.bytes(), each = std::min(bytes, kBytes);
  for (size_t i = 0; i < kPlaces; i++) hash.add(data + (bytes - each) * i / (kPlaces - 1), each);
}

Fingerprint fingerprint_of(Decoder& decoder, uint64_t state_bytes) {
  Hash config, weights;
  Config described = decoder.config();
  // the family it was read from does not matter
  described.family.clear();
  config.add(describe(described).dump());
  Fingerprint model;
  decoder.visit([&](const std::string& path, Var& parameter) {
    const Tensor& tensor = parameter.value();
    weights.add(path + to_string(tensor.shape()) + name(tensor.dtype()));
    add_sample(weights, tensor);
    if (path == "tok_embeddings.weight") std::string_view(name(tensor.dtype())).copy(model.dtype, sizeof model.dtype - 1);
  });
  model.config = config.value();
  model.weights = weights.value();
  model.floats = (state_bytes + sizeof(float) - 1) / sizeof(float);
  model.logits = static_cast<uint64_t>(decoder.config().vocab);
  return model;
}

std::string to_text(const Fingerprint& model) {
  return format("%016llx-%016llx", static_cast<unsigned long long>(model.config),
                static_cast<unsigned long long>(model.weights));
}

}  // namespace supra
