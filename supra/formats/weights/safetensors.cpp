#include "supra/formats/weights/safetensors.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "supra/formats/weights/checksums.h"
#include "supra/formats/parse/json.h"
#include "supra/formats/weights/shards.h"
#include "tensor/quantized.h"

namespace supra {

namespace {

constexpr const char* kMetadata = "__metadata__";
// The limit of the format's own reader.
constexpr uint64_t kLargestHeader = 100'000'000;

// The format's types, and the dtype if there is one. `bits` 0: of unknown size.
struct StoredType {
  const char* name;
  uint64_t bits;
  std::optional<Dtype> dtype;
};

const StoredType kTypes[] = {
    {"F64", 64, Dtype::f64}, {"F32", 32, Dtype::f32}, {"F16", 16, Dtype::f16}, {"BF16", 16, Dtype::bf16},
    {"I64", 64, Dtype::i64}, {"I32", 32, Dtype::i32}, {"I16", 16, Dtype::i16}, {"I8", 8, Dtype::i8},
    {"U8", 8, Dtype::u8},    {"U64", 64, {}},         {"U32", 32, {}},         {"U16", 16, {}},
    {"BOOL", 8, {}},         {"F8_E4M3", 8, {}},      {"F8_E5M2", 8, {}},      {"F8_E8M0", 8, {}},
};

StoredType stored_type(const std::string& name) {
  const auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const StoredType& type) { return name == type.name; });
  return found == std::end(kTypes) ? StoredType{nullptr, 0, {}} : *found;
}

const char* stored_name(Dtype dtype) {
  if (is_quantized(dtype)) dtype = Dtype::u8;
  return std::find_if(std::begin(kTypes), std::end(kTypes), [=](const StoredType& type) { return type.dtype == dtype; })->name;
}

// An entry of the header, checked for consistency and against the size of the data.
struct Entry {
  TensorInfo info;
  uint64_t begin, end;
};

uint64_t non_negative(const Json& json, const std::string& what) {
  const int64_t value = json.as_integer(what);
  CHECK(value >= 0, "%s: %s is %ld, it must not be negative", json.where().c_str(), what.c_str(), static_cast<long>(value));
  return static_cast<uint64_t>(value);
}

Entry read_entry(const std::string& name, const Json& json, uint64_t data_size) {
  Entry entry;
  entry.info.name = name;
  json.as_object("tensor " + name);
  const std::string& type_name = json.text("dtype");
  const StoredType type = stored_type(type_name);
  if (type.dtype)
    entry.info.dtype = *type.dtype;
  else
    entry.info.stored = type_name;

  uint64_t count = 1, bytes = 0;
  bool fits = true;
  const auto& sizes = json.at("shape").as_array("shape of " + name);
  CHECK(sizes.size() <= Shape::kMostDimensions, "%s: tensor %s has %zu dimensions, %zu at most are read", json.where().c_str(),
        name.c_str(), sizes.size(), Shape::kMostDimensions);
  for (const Json& size : sizes) {
    const uint64_t n = non_negative(size, "shape of " + name);
    fits = fits && !__builtin_mul_overflow(count, n, &count);
    entry.info.shape.push_back(static_cast<int64_t>(n));
  }
  fits = fits && !__builtin_mul_overflow(count, type.bits / 8, &bytes) && bytes < uint64_t{1} << 62;

  const Json::Array offsets = json.at("data_offsets").as_array("data_offsets of " + name);
  CHECK(offsets.size() == 2, "%s: data_offsets of %s has %zu numbers, begin and end are needed",
        json.where().c_str(), name.c_str(), offsets.size());
  entry.begin = non_negative(offsets[0], "data_offsets of " + name);
  entry.end = non_negative(offsets[1], "data_offsets of " + name);
  const unsigned long begin = entry.begin, end = entry.end;
  CHECK(begin <= end && end <= data_size,
        "%s: tensor %s lies at bytes %lu to %lu, the data has %lu (is the file cut short?)",
        json.where().c_str(), name.c_str(), begin, end, static_cast<unsigned long>(data_size));
  CHECK(type.bits == 0 || (fits && bytes == end - begin),
        "%s: tensor %s of shape %s and type %s does not fill bytes %lu to %lu", json.where().c_str(),
        name.c_str(), to_string(entry.info.shape).c_str(), type_name.c_str(), begin, end);
  return entry;
}

// Sets shape and dtype of a tensor that the metadata says is quantised.
void read_quantized(TensorInfo& info, const Json& dtype_name) {
  for (const Dtype dtype : {Dtype::q8_0, Dtype::q4_0, Dtype::q4_1}) {
    if (dtype_name.as_string(info.name) != name(dtype)) continue;
    const int64_t block = static_cast<int64_t>(row_bytes(dtype, kBlock));
    CHECK(info.dtype == Dtype::u8 && info.shape.size() == 2 && info.shape[1] % block == 0,
          "%s: tensor %s is said to be %s, but its %s %s are not rows of blocks of %ld bytes", dtype_name.where().c_str(),
          info.name.c_str(), name(dtype), to_string(info.shape).c_str(), name(info.dtype), static_cast<long>(block));
    info.shape[1] = info.shape[1] / block * kBlock;
    info.dtype = dtype;
  }
}

class Safetensors : public WeightReader {
 public:
  explicit Safetensors(const MappedFile& file);

 protected:
  Tensor read(size_t index) const override;

 private:
  MappedFile file_;
  std::vector<const uint8_t*> data_;
};

Json parse_header(const MappedFile& file) {
  return Json::parse(safetensors_header(file), file.path().string() + " (header)");
}

Safetensors::Safetensors(const MappedFile& file) : WeightReader(file.path()), file_(file) {
  const Path& path = file.path();
  const Json json = parse_header(file);
  const std::string_view header = safetensors_header(file);
  const uint8_t* data = reinterpret_cast<const uint8_t*>(header.data() + header.size());
  const uint64_t data_size = file_.size() - sizeof(uint64_t) - header.size();

  std::vector<Entry> entries;
  std::unordered_map<std::string, const Json*> notes;
  for (const auto& [name, value] : json.as_object("header")) {
    if (name == kMetadata) {
      for (const auto& [key, text] : value.as_object(name)) {
        text.as_string(key);
        notes[key] = &text;
      }
    } else {
      entries.push_back(read_entry(name, value, data_size));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t at = 0;
  for (const Entry& entry : entries) {
    CHECK(entry.begin == at, "%s: tensor %s begins at byte %lu of the data, %s the one before ends at %lu",
          path.c_str(), entry.info.name.c_str(), static_cast<unsigned long>(entry.begin),
          entry.begin < at ? "overlaps:" : "leaves a hole:", static_cast<unsigned long>(at));
    at = entry.end;
    data_.push_back(data + entry.begin);
    TensorInfo info = entry.info;
    if (notes.contains(info.name)) read_quantized(info, *notes[info.name]);
    add(std::move(info));
  }
  CHECK(at == data_size, "%s: %lu bytes follow the last tensor", path.c_str(), static_cast<unsigned long>(data_size - at));
}

Tensor Safetensors::read(size_t index) const {
  const TensorInfo& info = tensors()[index];
  CHECK(info.stored.empty(),
        "%s: tensor %s is of type %s, which this version does not read (convert it to F32, F16 or BF16)",
        path().c_str(), info.name.c_str(), info.stored.c_str());
  return map_tensor(file_, data_[index], info.shape, info.dtype);
}

}  // namespace

std::string_view safetensors_header(const MappedFile& file) {
  const char* path = file.path().c_str();
  uint64_t header = 0;
  CHECK(file.size() >= sizeof header, "%s: has %zu bytes, a safetensors file has 8 at least", path, file.size());
  memcpy(&header, file.data(), sizeof header);
  const auto announced = static_cast<unsigned long>(header);
  CHECK(header <= file.size() - sizeof header,
        "%s: announces a header of %lu bytes, the file has %zu (it is cut short, or is not a safetensors file)", path, announced,
        file.size());
  CHECK(header <= kLargestHeader,
        "%s: has a header of %lu bytes, the format allows %lu (it is not a model, or it is damaged)", path, announced,
        static_cast<unsigned long>(kLargestHeader));
  return file.text().substr(sizeof header, header);
}

Metadata read_metadata(const MappedFile& file) {
  Metadata all;
  const Json json = parse_header(file);
  const Json* metadata = json.find(kMetadata);
  if (!metadata) return all;
  for (const auto& [key, text] : metadata->as_object(kMetadata)) all.emplace_back(key, text.as_string(key));
  return all;
}

std::unique_ptr<WeightReader> open_safetensors(const Path& path) {
  if (path.string().ends_with(".index.json")) return open_shards(path);
  return open_safetensors(MappedFile(path));
}

std::unique_ptr<WeightReader> open_safetensors(const MappedFile& file) {
  return std::make_unique<Safetensors>(file);
}

void write_safetensors(const Path& path, const NamedTensors& tensors, const Metadata& metadata, std::optional<Dtype> dtype) {
  using Named = NamedTensors::value_type;
  auto written_as = [&](const Named* t) { return dtype.value_or(t->second.dtype()); };
  auto element_size = [](Dtype stored) { return is_quantized(stored) ? 1 : size_of(stored); };
  std::vector<const Named*> order;
  for (const Named& t : tensors) order.push_back(&t);
  std::stable_sort(order.begin(), order.end(), [&](const Named* a, const Named* b) {
    return element_size(written_as(a)) > element_size(written_as(b));
  });

  std::vector<Json::Member> header, notes;
  for (const auto& [key, text] : metadata) notes.push_back({key, text});
  for (const Named* t : order) {
    if (is_quantized(written_as(t))) notes.push_back({t->first, name(written_as(t))});
  }
  if (!notes.empty()) header.push_back({kMetadata, Json::object(std::move(notes))});
  std::unordered_set<std::string> names = {kMetadata};
  int64_t at = 0;
  for (const Named* t : order) {
    const auto& [name, tensor] = *t;
    CHECK(names.insert(name).second, "%s: cannot write two tensors named %s", path.c_str(), name.c_str());
    Shape stored = tensor.shape();
    if (is_quantized(written_as(t)))
      stored.back() = static_cast<int64_t>(row_bytes(written_as(t), stored.back()));
    Json shape = Json::array();
    for (const int64_t size : stored) shape.push(size);
    const int64_t end = at + numel(stored) * static_cast<int64_t>(element_size(written_as(t)));
    header.push_back({name, Json::object({{"dtype", stored_name(written_as(t))},
                                          {"shape", std::move(shape)},
                                          {"data_offsets", Json::array({at, end})}})});
    at = end;
  }

  std::string text = Json::object(std::move(header)).dump();
  // spaces up to a multiple of 64, so that the data begins at a cache line
  const uint64_t length = (sizeof length + text.size() + 63) / 64 * 64 - sizeof length;
  text.resize(length, ' ');
  seal_header(text);
  FileWriter out(path);
  out.write(&length, sizeof length);
  out.write(text);
  for (const Named* t : order)
    each_piece(t->second, written_as(t), [&](std::string_view bytes) { out.write(bytes); });
  out.finish();
}

void write_sharded_safetensors(const Path& folder, const NamedTensors& tensors, std::optional<Dtype> dtype,
                               uint64_t max_shard_bytes) {
  std::vector<NamedTensors> shards(1);
  uint64_t total = 0, in_shard = 0;
  for (const auto& [name, tensor] : tensors) {
    const Dtype written = dtype.value_or(tensor.dtype());
    uint64_t bytes = static_cast<uint64_t>(tensor.numel());
    bytes = is_quantized(written) ? tensor.bytes() : bytes * size_of(written);
    if (in_shard > 0 && bytes > max_shard_bytes - std::min(in_shard, max_shard_bytes)) {
      shards.emplace_back();
      in_shard = 0;
    }
    shards.back().emplace_back(name, tensor);
    in_shard += bytes;
    total += bytes;
  }
  if (shards.size() == 1)
    return write_safetensors(folder / "model.safetensors", tensors, {{"format", "pt"}}, dtype);
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); i++) {
    const std::string file = format("model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
    write_safetensors(folder / file, shards[i], {{"format", "pt"}}, dtype);
    for (const auto& [name, tensor] : shards[i]) map.set(name, file);
  }
  const Json metadata = Json::object({{"total_size", static_cast<int64_t>(total)}});
  const Json index = Json::object({{"metadata", metadata}, {"weight_map", std::move(map)}});
  FileWriter out(folder / "model.safetensors.index.json");
  out.write(index.dump(true) + "\n");
  out.finish();
}

}  // namespace supra
