#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace supra {

struct ZipRecord {
  uint64_t size, at;  // bytes; the place of its header
};
using ZipDirectory = std::map<std::string_view, ZipRecord>;

// The records of a zip or zip64 archive (PKWARE's APPNOTE.TXT). PyTorch only stores records, so a record is a part of the
// file's bytes. Throws Error, beginning with `where`, for a directory that does not fit the file, and naming the record if it
// is compressed or encrypted.
ZipDirectory read_zip(std::string_view file, const std::string& where);

// The bytes of a record. Only this function looks at the record's header: headers lie between the data of a large file, and
// every page that is read takes memory.
std::string_view record_bytes(std::string_view file, const ZipDirectory::value_type& record, const std::string& where);

// Writes an archive of stored records from front to back, always with the wide numbers of zip64:
//   zip.begin(name, size, crc), then the caller writes that many bytes; ...; zip.finish()
class ZipWriter {
 public:
  explicit ZipWriter(std::function<void(std::string_view bytes)> write) : write_(std::move(write)) {}

  // The record's bytes begin at a multiple of 64 bytes.
  void begin(const std::string& name, uint64_t size, uint32_t crc);
  void finish();

 private:
  struct Record {
    std::string name;
    uint64_t size, at;
    uint32_t crc;
  };
  void write(std::string_view bytes);

  std::function<void(std::string_view)> write_;
  std::vector<Record> records_;
  uint64_t at_ = 0;
};

}  // namespace supra
