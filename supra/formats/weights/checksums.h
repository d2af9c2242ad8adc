#pragma once
#include <string>
#include <vector>

#include "supra/formats/weights/safetensors.h"

// Checksums in the metadata of a safetensors file, each a CRC-32 (that of zlib) as eight hexadecimal digits:
//   "crc32:NAME"   of the bytes of the tensor NAME
//   "crc32"        of the header, with zeros for these eight digits
// Other readers ignore these keys.

namespace supra {

// The checksums in the order of writing. The header's is zeros until seal_header().
Metadata checksums_of(const NamedTensors& tensors);

// Puts the header's checksum into its finished text, if the header has a place for it.
void seal_header(std::string& header);

// A part of a file that has a checksum: "header", or a tensor by its name.
struct CheckedPart {
  std::string name;
  bool intact = false;
};

// Reads a whole safetensors file and compares. Empty if the file has no checksums; if it has some, a tensor without one is not
// intact. Throws Error if the header cannot be read.
std::vector<CheckedPart> check_parts(const MappedFile& file);

// Throws Error if a part is damaged, or if the file has no checksums.
void check_weights(const MappedFile& file);

}  // namespace supra
