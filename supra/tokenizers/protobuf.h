#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace supra {

// Reads the wire format of protocol buffers (protobuf.dev/programming-guides/encoding), one field after
// another:
//   ProtoReader reader(bytes, path);
//   while (reader.next()) if (reader.field() == 1) text = reader.bytes();
// Nothing is allocated. Every size is checked; Errors name the file and the offset. `where` and the bytes
// must outlive it.
class ProtoReader {
 public:
  ProtoReader(std::string_view message, const std::string& where) : ProtoReader(message, where, 0) {}

  // Goes to the next field; false at the end of the message.
  bool next();

  uint64_t field() const { return field_; }

  // The field's value. Throws Error where the file holds another type.
  int64_t integer() const;         // int32, int64, bool, enum
  float real() const;              // float
  std::string_view bytes() const;  // string, bytes
  ProtoReader message() const;     // a message inside

 private:
  enum Wire : uint8_t { varint = 0, fixed64 = 1, delimited = 2, fixed32 = 5 };
  ProtoReader(std::string_view message, const std::string& where, size_t offset)
      : message_(message), where_(&where), offset_(offset) {}
  uint64_t read_varint();
  uint64_t read_fixed(size_t size);
  void expect(Wire wire) const;

  std::string_view message_;
  const std::string* where_;
  size_t offset_;  // of the message in the file
  size_t at_ = 0;
  uint64_t field_ = 0;
  uint8_t wire_ = 0;
  uint64_t number_ = 0;     // varint, fixed32, fixed64
  std::string_view bytes_;  // delimited
};

// Writes the same, field by field.
class ProtoWriter {
 public:
  ProtoWriter& integer(uint32_t field, int64_t value);
  ProtoWriter& real(uint32_t field, float value);
  ProtoWriter& bytes(uint32_t field, std::string_view value);  // a message too
  const std::string& text() const { return text_; }

 private:
  void varint(uint64_t value);

  std::string text_;
};

}  // namespace supra
