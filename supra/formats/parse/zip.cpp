#include "supra/formats/parse/zip.h"

#include <algorithm>

#include "supra/formats/parse/byte_reader.h"

namespace supra {

namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50,
                   kLocator64 = 0x07064b50;
constexpr uint64_t kEndBytes = 22, kLocatorBytes = 20;
// Stands where a number is too large for 32 bits, and an extra field holds it.
constexpr uint32_t kElsewhere = 0xffffffff;

struct Directory {
  uint64_t records, at;
};

// The end record stands at the end, but for a comment of up to 65,535 bytes.
Directory find_directory(std::string_view file, const std::string& where) {
  const size_t end = file.rfind("PK\x05\x06");
  CHECK(end != file.npos && file.size() - end <= kEndBytes + 65535,
        "%s: has no zip directory at its end (the file is cut short, or no PyTorch file)", where.c_str());
  ByteReader in(file, where, end + 8);
  Directory directory{};
  in.number<uint16_t>("the zip directory");
  directory.records = in.number<uint16_t>("the zip directory");
  in.number<uint32_t>("the zip directory");
  directory.at = in.number<uint32_t>("the zip directory");
  in.bytes(in.number<uint16_t>("the zip directory"), "the comment of the zip directory");
  CHECK(in.left() == 0, "%s: %lu bytes follow the zip directory", where.c_str(),
        static_cast<unsigned long>(in.left()));
  if (end < kLocatorBytes) return directory;
  ByteReader locator(file, where, end - kLocatorBytes);
  if (locator.number<uint32_t>("the zip64 locator") != kLocator64) return directory;
  locator.number<uint32_t>("the zip64 locator");
  ByteReader wide(file, where, locator.number<uint64_t>("the zip64 locator"));
  CHECK(wide.number<uint32_t>("the zip64 directory") == kEnd64, "%s: has no zip64 directory at byte %lu",
        where.c_str(), static_cast<unsigned long>(wide.at()) - 4);
  wide.bytes(28, "the zip64 directory");
  directory.records = wide.number<uint64_t>("the zip64 directory");
  wide.bytes(8, "the zip64 directory");
  directory.at = wide.number<uint64_t>("the zip64 directory");
  return directory;
}

// The wide numbers of the zip64 field (id 1) stand in place of those that are kElsewhere, in this order.
void read_extra(std::string_view extra, const std::string& where, uint64_t& size, uint64_t& packed,
                uint64_t& at) {
  ByteReader in(extra, where);
  while (in.left() >= 4) {
    const uint16_t id = in.number<uint16_t>("an extra field");
    const std::string_view field = in.bytes(in.number<uint16_t>("an extra field"), "an extra field");
    if (id != 1) continue;
    ByteReader wide(field, where);
    for (uint64_t* number : {&size, &packed, &at}) {
      if (*number == kElsewhere) *number = wide.number<uint64_t>("a zip64 field");
    }
  }
}

}  // namespace

ZipDirectory read_zip(std::string_view file, const std::string& where) {
  ZipDirectory records;
  const Directory directory = find_directory(file, where);
  ByteReader in(file, where, directory.at);
  // every record takes bytes of the file, so a number that lies soon runs out of them
  for (uint64_t i = 0; i < directory.records; i++) {
    const char* what = "a record of the zip directory";
    CHECK(in.number<uint32_t>(what) == kCentral, "%s: has no zip record at byte %lu", where.c_str(),
          static_cast<unsigned long>(in.at()) - 4);
    in.bytes(4, what);
    const uint16_t flags = in.number<uint16_t>(what), method = in.number<uint16_t>(what);
    in.bytes(8, what);
    uint64_t packed = in.number<uint32_t>(what), size = in.number<uint32_t>(what);
    const uint16_t name_size = in.number<uint16_t>(what), extra_size = in.number<uint16_t>(what),
                   comment_size = in.number<uint16_t>(what);
    in.bytes(8, what);
    uint64_t at = in.number<uint32_t>(what);
    const std::string_view name = in.bytes(name_size, what);
    read_extra(in.bytes(extra_size, what), where, size, packed, at);
    in.bytes(comment_size, what);

    const std::string text(name);
    CHECK(method == 0 && (flags & 1) == 0 && packed == size,
          "%s: record %s is compressed or encrypted (method %u), stored ones are read", where.c_str(),
          text.c_str(), method);
    // a header of 30 bytes at least stands before the bytes
    CHECK(at <= file.size() && size <= file.size() - at && file.size() - at - size >= 30,
          "%s: record %s of %lu bytes at byte %lu does not fit the file of %zu (is it cut short?)",
          where.c_str(), text.c_str(), static_cast<unsigned long>(size), static_cast<unsigned long>(at),
          file.size());
    CHECK(records.emplace(name, ZipRecord{size, at}).second, "%s: record %s stands twice", where.c_str(),
          text.c_str());
  }
  return records;
}

std::string_view record_bytes(std::string_view file, const ZipDirectory::value_type& record,
                              const std::string& where) {
  const std::string name(record.first);
  const unsigned long at = record.second.at;
  ByteReader in(file, where, at);
  CHECK(in.number<uint32_t>(name.c_str()) == kLocal, "%s: record %s does not begin at byte %lu",
        where.c_str(), name.c_str(), at);
  in.bytes(22, name.c_str());
  const uint16_t name_size = in.number<uint16_t>(name.c_str()), extra = in.number<uint16_t>(name.c_str());
  CHECK(in.bytes(name_size, name.c_str()) == name, "%s: record %s bears another name at byte %lu",
        where.c_str(), name.c_str(), at);
  in.bytes(extra, name.c_str());
  return in.bytes(record.second.size, name.c_str());
}

namespace {

template <class T>
void put(std::string& out, T number) {
  out.append(reinterpret_cast<const char*>(&number), sizeof number);
}

// What a record's two headers share, from the flags on: stored, 1 January 1980, no size that is not
// elsewhere.
void put_common(std::string& out, uint32_t crc, size_t name, size_t extra) {
  put<uint32_t>(out, 0);
  put<uint16_t>(out, 0);
  put<uint16_t>(out, 33);
  put(out, crc);
  put<uint32_t>(out, kElsewhere);
  put<uint32_t>(out, kElsewhere);
  put(out, static_cast<uint16_t>(name));
  put(out, static_cast<uint16_t>(extra));
}

constexpr uint16_t kZip64Version = 45;

}  // namespace

void ZipWriter::write(const std::string& bytes) {
  write_(bytes);
  at_ += bytes.size();
}

void ZipWriter::begin(const std::string& name, uint64_t size, uint32_t crc) {
  CHECK(name.size() < 65536, "the name of a zip record has %zu bytes", name.size());
  records_.push_back({name, size, at_, crc});
  // 30 bytes of header, the name, 20 bytes of wide sizes, and a field of padding ("FB", as PyTorch writes it)
  const size_t before = 30 + name.size() + 20 + 4, padding = (64 - (at_ + before) % 64) % 64;
  std::string header;
  put(header, kLocal);
  put(header, kZip64Version);
  put_common(header, crc, name.size(), 24 + padding);
  header += name;
  put<uint16_t>(header, 1);
  put<uint16_t>(header, 16);
  put(header, size);
  put(header, size);
  header += "FB";
  put(header, static_cast<uint16_t>(padding));
  header.append(padding, 'Z');
  write(header);
  at_ += size;
}

void ZipWriter::finish() {
  const uint64_t begin = at_;
  for (const Record& record : records_) {
    std::string entry;
    put(entry, kCentral);
    put(entry, kZip64Version);
    put(entry, kZip64Version);
    put_common(entry, record.crc, record.name.size(), 28);
    // no comment, disk 0, no attributes
    entry.append(10, '\0');
    put<uint32_t>(entry, kElsewhere);
    entry += record.name;
    put<uint16_t>(entry, 1);
    put<uint16_t>(entry, 24);
    put(entry, record.size);
    put(entry, record.size);
    put(entry, record.at);
    write(entry);
  }
  const uint64_t end = at_, n = records_.size();
  std::string tail;
  put(tail, kEnd64);
  put<uint64_t>(tail, 44);
  put(tail, kZip64Version);
  put(tail, kZip64Version);
  put<uint64_t>(tail, 0);
  for (const uint64_t number : {n, n, end - begin, begin}) put(tail, number);
  put(tail, kLocator64);
  put<uint32_t>(tail, 0);
  put(tail, end);
  put<uint32_t>(tail, 1);
  put(tail, kEnd);
  put<uint32_t>(tail, 0);
  for (int i = 0; i < 2; i++) put<uint16_t>(tail, 0xffff);
  for (int i = 0; i < 2; i++) put<uint32_t>(tail, kElsewhere);
  put<uint16_t>(tail, 0);
  write(tail);
}

}  // namespace supra
