#include "supra/formats/parse/zip.h"

#include "supra/formats/parse/byte_reader.h"

namespace supra {

namespace {

// Stands for a number that is too large for its field; an extra field has it.
constexpr uint32_t kElsewhere = 0xffffffff;
constexpr uint16_t kVersion = 45;  // the first with zip64

// The records of the format as they lie in the file. The defaults are what ZipWriter writes.
struct [[gnu::packed]] RecordFields {
  uint16_t flags = 0, method = 0, time = 0, date = 33;  // stored, 1 January 1980
  uint32_t crc = 0, packed = kElsewhere, size = kElsewhere;
  uint16_t name_size = 0, extra_size = 0;
};
struct [[gnu::packed]] LocalHeader {
  static constexpr uint32_t kMagic = 0x04034b50;
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  RecordFields fields;
};
struct [[gnu::packed]] CentralHeader {
  static constexpr uint32_t kMagic = 0x02014b50;
  uint32_t magic = kMagic;
  uint16_t made_by = kVersion, version = kVersion;
  RecordFields fields;
  uint16_t comment_size = 0, disk = 0, internal_attributes = 0;
  uint32_t external_attributes = 0, at = kElsewhere;
};
struct [[gnu::packed]] End64 {
  static constexpr uint32_t kMagic = 0x06064b50;
  uint32_t magic = kMagic;
  uint64_t size_behind = 44;
  uint16_t made_by = kVersion, version = kVersion;
  uint32_t disk = 0, directory_disk = 0;
  uint64_t records_here, records, directory_size, directory_at;
};
struct [[gnu::packed]] Locator64 {
  static constexpr uint32_t kMagic = 0x07064b50;
  uint32_t magic = kMagic, disk = 0;
  uint64_t end64_at;
  uint32_t disks = 1;
};
struct [[gnu::packed]] End {
  uint32_t magic = 0x06054b50;
  uint16_t disk = 0, directory_disk = 0, records_here = 0xffff, records = 0xffff;
  uint32_t directory_size = kElsewhere, directory_at = kElsewhere;
  uint16_t comment_size = 0;
};
// The sizes of a record if its fields are kElsewhere; in the directory its place follows.
struct [[gnu::packed]] Zip64Field {
  uint16_t id = 1, size;
  uint64_t unpacked, packed;
};
static_assert(sizeof(LocalHeader) == 30 && sizeof(CentralHeader) == 46 && sizeof(End64) == 56 && sizeof(Locator64) == 20 &&
              sizeof(End) == 22 && sizeof(Zip64Field) == 20);

// Reads a record that begins with its magic number.
template <class Record>
Record read_record(ByteReader& in, const std::string& where, const char* what) {
  const unsigned long at = in.at();
  const Record record = in.number<Record>(what);
  CHECK(record.magic == Record::kMagic, "%s: %s does not begin at byte %lu", where.c_str(), what, at);
  return record;
}

struct Directory {
  uint64_t records, at;
};

// The end record is the last one. A comment of up to 65,535 bytes may follow.
Directory find_directory(std::string_view file, const std::string& where) {
  const size_t at = file.rfind("PK\x05\x06");
  CHECK(at != file.npos && file.size() - at <= sizeof(End) + 65535,
        "%s: has no zip directory at its end (the file is cut short, or is not a PyTorch file)", where.c_str());
  ByteReader in(file, where, at);
  const End end = in.number<End>("the zip directory");
  in.bytes(end.comment_size, "the comment of the zip directory");
  CHECK(in.left() == 0, "%s: %lu bytes follow the zip directory", where.c_str(), static_cast<unsigned long>(in.left()));
  const Directory directory = {end.records, end.directory_at};
  if (at < sizeof(Locator64)) return directory;
  const Locator64 locator = ByteReader(file, where, at - sizeof(Locator64)).number<Locator64>("the zip64 locator");
  if (locator.magic != Locator64::kMagic) return directory;
  ByteReader wide(file, where, locator.end64_at);
  const End64 end64 = read_record<End64>(wide, where, "the zip64 directory");
  return {end64.records, end64.directory_at};
}

// Replaces the numbers that are kElsewhere, in this order, by those of the zip64 field (id 1).
void read_extra(std::string_view extra, const std::string& where, uint64_t& size, uint64_t& packed, uint64_t& at) {
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
  // each record takes bytes of the file, so a wrong count soon reaches the end
  for (uint64_t i = 0; i < directory.records; i++) {
    const char* what = "a record of the zip directory";
    const CentralHeader header = read_record<CentralHeader>(in, where, what);
    const RecordFields& fields = header.fields;
    uint64_t packed = fields.packed, size = fields.size, at = header.at;
    const std::string_view name = in.bytes(fields.name_size, what);
    read_extra(in.bytes(fields.extra_size, what), where, size, packed, at);
    in.bytes(header.comment_size, what);

    const std::string text(name);
    CHECK(fields.method == 0 && (fields.flags & 1) == 0 && packed == size,
          "%s: record %s is compressed or encrypted (method %u); only stored records are read", where.c_str(), text.c_str(),
          unsigned{fields.method});
    CHECK(at <= file.size() && size <= file.size() - at && file.size() - at - size >= sizeof(LocalHeader),
          "%s: record %s of %lu bytes at byte %lu does not fit the file of %zu (is it cut short?)", where.c_str(), text.c_str(),
          static_cast<unsigned long>(size), static_cast<unsigned long>(at), file.size());
    CHECK(records.emplace(name, ZipRecord{size, at}).second, "%s: there are two records %s", where.c_str(), text.c_str());
  }
  return records;
}

std::string_view record_bytes(std::string_view file, const ZipDirectory::value_type& record, const std::string& where) {
  const std::string name(record.first);
  ByteReader in(file, where, record.second.at);
  const LocalHeader header = read_record<LocalHeader>(in, where, ("record " + name).c_str());
  CHECK(in.bytes(header.fields.name_size, name.c_str()) == name, "%s: record %s has another name in its header at byte %lu",
        where.c_str(), name.c_str(), static_cast<unsigned long>(record.second.at));
  in.bytes(header.fields.extra_size, name.c_str());
  return in.bytes(record.second.size, name.c_str());
}

void ZipWriter::write(std::string_view bytes) {
  write_(bytes);
  at_ += bytes.size();
}

void ZipWriter::begin(const std::string& name, uint64_t size, uint32_t crc) {
  CHECK(name.size() < 65536, "the name of a zip record has %zu bytes", name.size());
  records_.push_back({name, size, at_, crc});
  const Zip64Field wide = {.size = 16, .unpacked = size, .packed = size};
  // a second extra field, "FB" as in PyTorch's files, pads the header
  const size_t before = sizeof(LocalHeader) + name.size() + sizeof wide + 4, padding = (64 - (at_ + before) % 64) % 64;
  LocalHeader header;
  header.fields.crc = crc;
  header.fields.name_size = static_cast<uint16_t>(name.size());
  header.fields.extra_size = static_cast<uint16_t>(sizeof wide + 4 + padding);
  write(bytes_of(header));
  write(name);
  write(bytes_of(wide));
  write("FB");
  write(bytes_of(static_cast<uint16_t>(padding)));
  write(std::string(padding, 'Z'));
  at_ += size;
}

void ZipWriter::finish() {
  const uint64_t begin = at_, n = records_.size();
  for (const Record& record : records_) {
    const Zip64Field wide = {.size = 24, .unpacked = record.size, .packed = record.size};
    CentralHeader header;
    header.fields.crc = record.crc;
    header.fields.name_size = static_cast<uint16_t>(record.name.size());
    header.fields.extra_size = sizeof wide + sizeof record.at;
    write(bytes_of(header));
    write(record.name);
    write(bytes_of(wide));
    write(bytes_of(record.at));
  }
  const uint64_t end = at_;
  write(bytes_of(End64{.records_here = n, .records = n, .directory_size = end - begin, .directory_at = begin}));
  write(bytes_of(Locator64{.end64_at = end}));
  write(bytes_of(End()));
}

}  // namespace supra
