#pragma once
#include <map>
#include <string_view>
#include <vector>

#include "supra/formats/parse/byte_reader.h"
#include "supra/formats/weights/ggml_blocks.h"
#include "supra/formats/weights/weights.h"

// GGUF v2 and v3 (github.com/ggml-org/ggml, docs/gguf.md): a model's description, vocabulary and weights in one file.
// Little-endian.
//   "GGUF", u32 version, u64 number of tensors, u64 number of keys
//   keys     string name, u32 type, value; a string is u64 length and bytes, an array u32 type, u64 count and values
//   tensors  string name, u32 number of dimensions, u64 each (from the innermost), u32 type (ggml_blocks.h), u64 offset
//   data     from the next multiple of general.alignment (default 32); offsets count from here

namespace supra {

class Gguf : public WeightReader {
 public:
  // Maps the file and checks everything before the data: counts, lengths, types, offsets. Values stay in the file.
  explicit Gguf(const Path& path);

  int version() const { return version_; }

  // The values of keys. Throws Error for a key that has another type, or is absent and has no `otherwise`. Views are valid as
  // long as the reader.
  bool has(std::string_view key) const { return values_.contains(key); }
  std::string_view text(std::string_view key) const;
  int64_t integer(std::string_view key) const;  // of any integer type
  double number(std::string_view key) const;    // of any type of number
  bool flag(std::string_view key) const;
  std::string_view text(std::string_view key, std::string_view otherwise) const {
    return has(key) ? text(key) : otherwise;
  }
  int64_t integer(std::string_view key, int64_t otherwise) const { return has(key) ? integer(key) : otherwise; }
  double number(std::string_view key, double otherwise) const { return has(key) ? number(key) : otherwise; }
  bool flag(std::string_view key, bool otherwise) const { return has(key) ? flag(key) : otherwise; }

  // Arrays.
  bool is_array(std::string_view key) const;
  std::vector<std::string_view> texts(std::string_view key) const;
  std::vector<int64_t> integers(std::string_view key) const;
  std::vector<double> numbers(std::string_view key) const;

 protected:
  Tensor read(size_t index) const override;

 private:
  enum class Kind { text, flag, integer, number };
  // The type of the value, or of an array's items, and the place of the first.
  struct Value {
    uint32_t type = 0;
    bool array = false;
    uint64_t count = 1, at = 0;
  };
  struct Stored {
    const BlockType* type;  // null: a type that is not read
    const uint8_t* data;
  };

  void read_values(ByteReader& in, uint64_t count);
  void read_tensors(ByteReader& in, uint64_t count);
  Value value(std::string_view key, bool array, Kind kind) const;
  int64_t integer_at(const Value& value, uint64_t index, std::string_view key) const;
  double number_at(const Value& value, uint64_t index, std::string_view key) const;

  MappedFile file_;
  std::string where_;
  int version_ = 0;
  std::map<std::string_view, Value> values_;
  std::vector<Stored> stored_;
};

}  // namespace supra
