#include "supra/formats/weights/gguf.h"

#include <algorithm>

#include "supra/formats/parse/byte_reader.h"
#include "tensor/parallel.h"
#include "tensor/quantized.h"

namespace supra {

namespace {

enum Type : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64, kTypeCount };

const char* const kTypeNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                  "bool", "string", "array", "u64", "i64", "f64"};

// The bytes of a value; 0 if they vary.
const uint64_t kTypeBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

std::string_view read_string(ByteReader& in, const char* what) {
  return in.bytes(in.number<uint64_t>(what), what);
}

}  // namespace

Gguf::Gguf(const Path& path) : WeightReader(path), file_(path), where_(path.string()) {
  ByteReader in(file_.text(), where_);
  CHECK(in.bytes(4, "the magic") == "GGUF", "%s: does not begin with GGUF", where_.c_str());
  const uint32_t version = in.number<uint32_t>("the version");
  CHECK(version == 2 || version == 3, "%s: is GGUF version %u, versions 2 and 3 are read%s", where_.c_str(),
        version, version % 65536 == 0 ? " (it is big-endian: convert it)" : "");
  version_ = static_cast<int>(version);
  const uint64_t tensors = in.number<uint64_t>("the number of tensors");
  read_values(in, in.number<uint64_t>("the number of keys"));
  read_tensors(in, tensors);
}

// Each key and string takes bytes of the file, so a wrong count soon reaches the end.
void Gguf::read_values(ByteReader& in, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    const std::string_view key = read_string(in, "a key");
    const std::string name(key);
    Value value;
    value.type = in.number<uint32_t>(name.c_str());
    value.array = value.type == array;
    if (value.array) {
      value.type = in.number<uint32_t>(name.c_str());
      value.count = in.number<uint64_t>(name.c_str());
    }
    CHECK(value.type < kTypeCount && value.type != array, "%s: key %s is %sof type %u, which is not read",
          where_.c_str(), name.c_str(), value.array ? "an array " : "", value.type);
    value.at = in.at();
    uint64_t bytes;
    CHECK(!__builtin_mul_overflow(value.count, kTypeBytes[value.type], &bytes), "%s: key %s has %lu items",
          where_.c_str(), name.c_str(), static_cast<unsigned long>(value.count));
    in.bytes(bytes, name.c_str());
    for (uint64_t k = 0; value.type == string && k < value.count; k++) read_string(in, name.c_str());
    CHECK(values_.emplace(key, value).second, "%s: there are two keys %s", where_.c_str(), name.c_str());
  }
}

void Gguf::read_tensors(ByteReader& in, uint64_t count) {
  const int64_t alignment = integer("general.alignment", 32);
  CHECK(alignment > 0 && alignment <= 1 << 30, "%s: general.alignment is %ld", where_.c_str(), static_cast<long>(alignment));
  std::vector<uint64_t> offsets, sizes;
  for (uint64_t i = 0; i < count; i++) {
    TensorInfo info;
    info.name = read_string(in, "the name of a tensor");
    const char* name = info.name.c_str();
    const uint32_t rank = in.number<uint32_t>(name);
    CHECK(rank <= 4, "%s: tensor %s has %u dimensions, 4 at most are read", where_.c_str(), name, rank);
    info.shape.resize(rank);
    for (uint32_t d = 0; d < rank; d++)
      info.shape[rank - 1 - d] = static_cast<int64_t>(in.number<uint64_t>(name));
    const uint32_t id = in.number<uint32_t>(name);
    offsets.push_back(in.number<uint64_t>(name));
    CHECK(offsets.back() % static_cast<uint64_t>(alignment) == 0,
          "%s: tensor %s is at byte %lu of the data, which is not a multiple of the alignment %ld", where_.c_str(), name,
          static_cast<unsigned long>(offsets.back()), static_cast<long>(alignment));

    int64_t blocks = 1, bytes = 0;
    bool fits = true;
    for (const int64_t size : info.shape)
      fits = fits && size >= 0 && !__builtin_mul_overflow(blocks, size, &blocks);
    const BlockType* type = block_type(id);
    info.stored = type ? type->name : format("type %u", id);
    if (type && type->dtype) {
      const bool vector = type->elements > 1 && rank < 2;
      CHECK(!vector && (type->elements == 1 || info.shape.back() % type->elements == 0),
            "%s: tensor %s of shape %s and type %s is not made of rows of blocks of %ld", where_.c_str(),
            name, to_string(info.shape).c_str(), type->name, static_cast<long>(type->elements));
      fits = fits && !__builtin_mul_overflow(blocks / type->elements, type->bytes, &bytes);
      // get() allocates at most four times as much
      fits = fits && blocks < int64_t{1} << 56;
      info.dtype = *type->dtype;
      if (!type->read_row || is_quantized(info.dtype)) info.stored.clear();
    }
    CHECK(fits, "%s: tensor %s of shape %s is too large", where_.c_str(), name, to_string(info.shape).c_str());
    sizes.push_back(static_cast<uint64_t>(bytes));
    stored_.push_back({type && type->dtype ? type : nullptr, nullptr});
    add(std::move(info));
  }
  const uint64_t align = static_cast<uint64_t>(alignment), begin = (in.at() + align - 1) / align * align;
  const uint64_t available = file_.size() - std::min<uint64_t>(file_.size(), begin);
  for (size_t i = 0; i < stored_.size(); i++) {
    CHECK(offsets[i] <= available && sizes[i] <= available - offsets[i],
          "%s: tensor %s needs %lu bytes from byte %lu of the data on, the data has %lu (is the file cut short?)", where_.c_str(),
          tensors()[i].name.c_str(), static_cast<unsigned long>(sizes[i]), static_cast<unsigned long>(offsets[i]),
          static_cast<unsigned long>(available));
    stored_[i].data = file_.data() + begin + offsets[i];
  }
}

Tensor Gguf::read(size_t index) const {
  const TensorInfo& info = tensors()[index];
  const Stored& stored = stored_[index];
  CHECK(stored.type,
        "%s: tensor %s is of type %s, which this version does not read (it reads F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, "
        "Q5_K and Q6_K)",
        where_.c_str(), info.name.c_str(), info.stored.c_str());
  if (!stored.type->read_row) return map_tensor(file_, stored.data, info.shape, info.dtype);
  Tensor out = Tensor::empty(info.shape, info.dtype);
  const int64_t C = info.shape.back(), blocks = C / stored.type->elements * stored.type->bytes;
  const int64_t row = static_cast<int64_t>(row_bytes(info.dtype, C));
  uint8_t* to = static_cast<uint8_t*>(out.raw());
  if (C == 0) return out;
  parallel_for(out.numel() / C, 1 + (1 << 15) / C, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) stored.type->read_row(to + i * row, stored.data + i * blocks, C);
  });
  return out;
}

Gguf::Value Gguf::value(std::string_view key, bool array, Kind kind) const {
  static const char* const kExpected[] = {"string", "bool", "integer", "number"};
  const auto found = values_.find(key);
  const std::string name(key);
  CHECK(found != values_.end(), "%s: key %s is missing", where_.c_str(), name.c_str());
  const Value& value = found->second;
  const bool real = value.type == f32 || value.type == f64;
  const Kind given = value.type == string    ? Kind::text
                     : value.type == boolean ? Kind::flag
                     : real                  ? Kind::number
                                             : Kind::integer;
  const bool fits = given == kind || (given == Kind::integer && kind == Kind::number);
  CHECK(value.array == array && fits, "%s: key %s is %s%s, %s%s is needed", where_.c_str(), name.c_str(),
        value.array ? "an array of " : "", kTypeNames[value.type], array ? "an array of " : "",
        kExpected[static_cast<int>(kind)]);
  return value;
}

int64_t Gguf::integer_at(const Value& value, uint64_t index, std::string_view key) const {
  const uint64_t bytes = kTypeBytes[value.type], unused_bits = 64 - 8 * bytes;
  uint64_t bits = 0;
  memcpy(&bits, file_.data() + value.at + index * bytes, bytes);
  const bool has_sign = kTypeNames[value.type][0] == 'i';
  if (has_sign) return static_cast<int64_t>(bits << unused_bits) >> unused_bits;
  CHECK(bits <= INT64_MAX, "%s: key %s is %lu, too large", where_.c_str(), std::string(key).c_str(), static_cast<unsigned long>(bits));
  return static_cast<int64_t>(bits);
}

double Gguf::number_at(const Value& value, uint64_t index, std::string_view key) const {
  const uint8_t* data = file_.data() + value.at + index * kTypeBytes[value.type];
  if (value.type == f32) {
    float single;
    memcpy(&single, data, sizeof single);
    return static_cast<double>(single);
  }
  if (value.type == f64) {
    double real;
    memcpy(&real, data, sizeof real);
    return real;
  }
  return static_cast<double>(integer_at(value, index, key));
}

int64_t Gguf::integer(std::string_view key) const { return integer_at(value(key, false, Kind::integer), 0, key); }

double Gguf::number(std::string_view key) const { return number_at(value(key, false, Kind::number), 0, key); }

bool Gguf::flag(std::string_view key) const { return file_.data()[value(key, false, Kind::flag).at] != 0; }

std::string_view Gguf::text(std::string_view key) const {
  ByteReader in(file_.text(), where_, value(key, false, Kind::text).at);
  return read_string(in, "a string");
}

bool Gguf::is_array(std::string_view key) const {
  const auto found = values_.find(key);
  return found != values_.end() && found->second.array;
}

std::vector<std::string_view> Gguf::texts(std::string_view key) const {
  const Value all = value(key, true, Kind::text);
  ByteReader in(file_.text(), where_, all.at);
  std::vector<std::string_view> texts(all.count);
  for (std::string_view& text : texts) text = read_string(in, "a string");
  return texts;
}

std::vector<int64_t> Gguf::integers(std::string_view key) const {
  const Value all = value(key, true, Kind::integer);
  std::vector<int64_t> integers(all.count);
  for (uint64_t i = 0; i < all.count; i++) integers[i] = integer_at(all, i, key);
  return integers;
}

std::vector<double> Gguf::numbers(std::string_view key) const {
  const Value all = value(key, true, Kind::number);
  std::vector<double> numbers(all.count);
  for (uint64_t i = 0; i < all.count; i++) numbers[i] = number_at(all, i, key);
  return numbers;
}

}  // namespace supra
