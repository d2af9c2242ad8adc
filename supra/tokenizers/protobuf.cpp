#include "supra/tokenizers/protobuf.h"

#include "tensor/error.h"

namespace supra {

bool ProtoReader::next() {
  if (at_ == message_.size()) return false;
  const uint64_t tag = read_varint();
  field_ = tag >> 3;
  wire_ = tag & 7;
  CHECK(field_ >= 1 && field_ < (1u << 29), "%s: no protobuf field has the number %llu (before byte %zu)",
        where_->c_str(), static_cast<unsigned long long>(field_), offset_ + at_);
  if (wire_ == varint) {
    number_ = read_varint();
  } else if (wire_ == fixed64 || wire_ == fixed32) {
    number_ = read_fixed(wire_ == fixed64 ? 8 : 4);
  } else {
    CHECK(wire_ == delimited, "%s: wire type %d before byte %zu is not read: no protobuf, or damaged",
          where_->c_str(), wire_, offset_ + at_);
    const uint64_t size = read_varint();
    CHECK(size <= message_.size() - at_,
          "%s: %llu bytes at byte %zu, where %zu are left: cut off, or no protobuf", where_->c_str(),
          static_cast<unsigned long long>(size), offset_ + at_, message_.size() - at_);
    bytes_ = message_.substr(at_, size);
    at_ += size;
  }
  return true;
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
  return ProtoReader(bytes(), *where_, offset_ + at_ - bytes_.size());
}

// Seven bits a byte, the lowest first; the eighth bit says that more follow.
uint64_t ProtoReader::read_varint() {
  uint64_t value = 0;
  for (int shift = 0; shift < 70 && at_ < message_.size(); shift += 7) {
    const auto byte = static_cast<uint8_t>(message_[at_++]);
    value |= uint64_t{byte & 0x7fu} << (shift < 64 ? shift : 63);
    if (byte < 0x80) return value;
  }
  fail("%s: a number does not end before byte %zu: cut off, or no protobuf", where_->c_str(), offset_ + at_);
}

uint64_t ProtoReader::read_fixed(size_t size) {
  CHECK(size <= message_.size() - at_, "%s: the file ends inside a number at byte %zu: cut off",
        where_->c_str(), offset_ + at_);
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) value |= uint64_t{static_cast<uint8_t>(message_[at_ + i])} << (8 * i);
  at_ += size;
  return value;
}

void ProtoReader::expect(Wire wire) const {
  CHECK(wire_ == wire, "%s: field %llu before byte %zu has wire type %d, expected %d", where_->c_str(),
        static_cast<unsigned long long>(field_), offset_ + at_, wire_, wire);
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
