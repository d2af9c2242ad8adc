#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace supra {

struct ZipRecord {
  uint64_t size, at;  // of its bytes; of its header in the file
};
using ZipDirectory = std::map<std::string_view, ZipRecord>;

// The records of a zip archive (PKWARE's APPNOTE.TXT), zip64 too. Only stored ones, which PyTorch writes;
// nothing is unpacked, so a record is a part of the file's bytes. Throws Error that begins with `where` for a
// directory that does not fit the file, and for compressed or encrypted records, by name.
ZipDirectory read_zip(std::string_view file, const std::string& where);

// The bytes of a record. Its header is looked at only now: it stands among the data of a large file, and
// every page that is touched becomes resident.
std::string_view record_bytes(std::string_view file, const ZipDirectory::value_type& record,
                              const std::string& where);

// Writes an archive of stored records front to back, with zip64's wide numbers throughout:
//   zip.begin(name, size, crc), then the caller writes that many bytes; ...; zip.finish()
class ZipWriter {
 public:
  explicit ZipWriter(std::function<void(std::string_view bytes)> write) : write_(std::move(write)) {}

  // The record's bytes begin at a multiple of 64 of the file.
  void begin(const std::string& name, uint64_t size, uint32_t crc);
  void finish();

 private:
  struct Record {
    std::string name;
    uint64_t size, at;
    uint32_t crc;
  };
  void write(const std::string& bytes);

  std::function<void(std::string_view)> write_;
  std::vector<Record> records_;
  uint64_t at_ = 0;
};

}  // namespace supra
