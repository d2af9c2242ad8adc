#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace supra {

// Finds the records of a zip archive (PKWARE's APPNOTE.TXT), zip64 too. Only stored ones, which PyTorch
// writes; nothing is unpacked, so a record is a part of the file's bytes. Throws Error that begins with
// `where` for a directory or a header that does not fit the file, and for compressed or encrypted records, by
// name.
std::map<std::string_view, std::string_view> read_zip(std::string_view file, const std::string& where);

}  // namespace supra
