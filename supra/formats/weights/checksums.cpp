#include "supra/formats/weights/checksums.h"

#include <unordered_map>

#include "supra/formats/parse/crc32.h"
#include "tensor/parallel.h"

namespace supra {

static constexpr std::string_view kHeader = "crc32", kTensor = "crc32:";
// The text that write_safetensors() writes before the header's digits.
static constexpr std::string_view kBeforeDigits = "\"crc32\": \"";
static constexpr size_t kDigits = 8;

static std::string digits_of(std::string_view bytes) { return format("%08x", crc32(0, bytes)); }

static std::string digits_of(const Tensor& tensor) {
  return digits_of({static_cast<const char*>(tensor.raw()), tensor.bytes()});
}

// Calls f(i) for each tensor, on all threads.
template <class F>
static void for_each_of(size_t tensors, F f) {
  parallel_for(static_cast<int64_t>(tensors), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) f(static_cast<size_t>(i));
  });
}

Metadata checksums_of(const NamedTensors& tensors) {
  Metadata all(1 + tensors.size());
  all[0] = {std::string(kHeader), std::string(kDigits, '0')};
  for_each_of(tensors.size(), [&](size_t i) {
    const auto& [name, tensor] = tensors[i];
    all[1 + i] = {std::string(kTensor) + name, digits_of(tensor.to(Device::cpu))};
  });
  return all;
}

// Sets the header's digits to zeros. Returns their place; npos if there are none.
static size_t clear_digits(std::string& header) {
  const size_t found = header.find(kBeforeDigits);
  if (found == header.npos || header.size() - found < kBeforeDigits.size() + kDigits) return header.npos;
  const size_t at = found + kBeforeDigits.size();
  header.replace(at, kDigits, kDigits, '0');
  return at;
}

void seal_header(std::string& header) {
  const size_t at = clear_digits(header);
  if (at != header.npos) header.replace(at, kDigits, digits_of(header));
}

std::vector<CheckedPart> check_parts(const MappedFile& file) {
  const auto reader = open_safetensors(file);
  std::unordered_map<std::string, std::string> stored;
  for (auto& [key, digits] : read_metadata(file)) {
    if (key.starts_with(kHeader)) stored[key] = digits;
  }
  if (stored.empty()) return {};

  std::string header(safetensors_header(file));
  clear_digits(header);
  std::vector<CheckedPart> parts = {{"header", stored[std::string(kHeader)] == digits_of(header)}};
  std::vector<std::pair<Tensor, std::string>> tensors;
  for (const TensorInfo& info : reader->tensors()) {
    tensors.emplace_back(reader->get(info.name), stored[std::string(kTensor) + info.name]);
    parts.push_back({info.name});
  }
  for_each_of(tensors.size(), [&](size_t i) {
    const auto& [tensor, digits] = tensors[i];
    parts[1 + i].intact = digits_of(tensor) == digits;
  });
  return parts;
}

void check_weights(const MappedFile& file) {
  const std::vector<CheckedPart> parts = check_parts(file);
  CHECK(!parts.empty(),
        "%s: has no checksums (supra convert --to packed writes the model again, with checksums)", file.path().c_str());
  for (const CheckedPart& part : parts) {
    CHECK(part.intact,
          "%s: %s is damaged, its checksum is not the one in the file (copy or convert the model again)", file.path().c_str(),
          part.name.c_str());
  }
}

}  // namespace supra
