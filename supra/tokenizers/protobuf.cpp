#include "supra/tokenizers/protobuf.h"

#include "tensor/error.h"

namespace supra {

bool ProtoReader::next() {
  if (in_.left() == 0) return false;
  const uint64_t tag = read_varint();
  field_ = tag >> 3;
  wire_ = tag & 7;
  CHECK(field_ >= 1 && field_ < (1u << 29), "%s: has a protobuf field %llu before byte %lu (the file is damaged, or not a protobuf)",
        where_->c_str(), static_cast<unsigned long long>(field_), static_cast<unsigned long>(in_.at()));
  switch (wire_) {
    case varint: number_ = read_varint(); return true;
    case fixed64: number_ = in_.number<uint64_t>("a number"); return true;
    case fixed32: number_ = in_.number<uint32_t>("a number"); return true;
    case delimited: bytes_ = in_.bytes(read_varint(), "a protobuf field"); return true;
  }
  fail("%s: wire type %d before byte %lu is not read (the file is damaged, or not a protobuf)", where_->c_str(), wire_,
       static_cast<unsigned long>(in_.at()));
}

int64_t ProtoReader::integer() const {
  expect(varint);
  return static_cast<int64_t>(number_);
}

float ProtoReader::real() const {
  expect(fixed32);
  return __builtin_bit_cast(float, static_cast<uint32_t>(number_));
}

std::string_view ProtoReader::bytes() const {
  expect(delimited);
  return bytes_;
}

ProtoReader ProtoReader::message() const {
  return ProtoReader(file_.substr(0, in_.at()), *where_, in_.at() - bytes().size());
}

// Seven bits a byte, the lowest first. The eighth bit means that more follow.
uint64_t ProtoReader::read_varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 70; shift += 7) {
    const auto byte = in_.number<uint8_t>("a number");
    value |= uint64_t{byte & 0x7fu} << (shift < 64 ? shift : 63);
    if (byte < 0x80) return value;
  }
  fail("%s: a number does not end before byte %lu (the file is damaged, or not a protobuf)", where_->c_str(),
       static_cast<unsigned long>(in_.at()));
}

void ProtoReader::expect(Wire wire) const {
  CHECK(wire_ == wire, "%s: field %llu before byte %lu has wire type %d, expected %d", where_->c_str(),
        static_cast<unsigned long long>(field_), static_cast<unsigned long>(in_.at()), wire_, wire);
}

void ProtoWriter::varint(uint64_t value) {
  for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
  text_ += static_cast<char>(value);
}

ProtoWriter& ProtoWriter::integer(uint32_t field, int64_t value) {
  varint(field << 3);
  varint(static_cast<uint64_t>(value));
  return *this;
}

ProtoWriter& ProtoWriter::real(uint32_t field, float value) {
  varint(field << 3 | 5);
  const auto bits = __builtin_bit_cast(uint32_t, value);
  for (int shift = 0; shift < 32; shift += 8) text_ += static_cast<char>(bits >> shift);
  return *this;
}

ProtoWriter& ProtoWriter::bytes(uint32_t field, std::string_view value) {
  varint(field << 3 | 2);
  varint(value.size());
  text_ += value;
  return *this;
}

}  // namespace supra
