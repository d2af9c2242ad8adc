#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "supra/formats/parse/byte_reader.h"

namespace supra {

// Reads the wire format of protocol buffers (protobuf.dev/programming-guides/encoding), field by field:
//   ProtoReader reader(bytes, path);
//   while (reader.next()) if (reader.field() == 1) text = reader.bytes();
// Allocates nothing. Checks every size; errors name the file and the offset. `where` and the bytes must outlive it.
class ProtoReader {
 public:
  ProtoReader(std::string_view message, const std::string& where) : ProtoReader(message, where, 0) {}

  // Goes to the next field; false at the end of the message.
  bool next();

  uint64_t field() const { return field_; }

  // The field's value. Throws Error if the file has another type.
  int64_t integer() const;         // int32, int64, bool, enum
  float real() const;              // float
  std::string_view bytes() const;  // string, bytes
  ProtoReader message() const;     // a nested message

 private:
  enum Wire : uint8_t { varint = 0, fixed64 = 1, delimited = 2, fixed32 = 5 };
  // The message from byte `at` of the file up to its end.
  ProtoReader(std::string_view file, const std::string& where, size_t at) : file_(file), where_(&where), in_(file, where, at) {}
  uint64_t read_varint();
  void expect(Wire wire) const;

  std::string_view file_;
  const std::string* where_;
  ByteReader in_;
  uint64_t field_ = 0;
  uint8_t wire_ = 0;
  uint64_t number_ = 0;     // varint, fixed32, fixed64
  std::string_view bytes_;  // delimited
};

// Writes this format, field by field.
class ProtoWriter {
 public:
  ProtoWriter& integer(uint32_t field, int64_t value);
  ProtoWriter& real(uint32_t field, float value);
  ProtoWriter& bytes(uint32_t field, std::string_view value);  // or a nested message
  const std::string& text() const { return text_; }

 private:
  void varint(uint64_t value);

  std::string text_;
};

}  // namespace supra
