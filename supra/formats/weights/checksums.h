#pragma once
#include <string>
#include <vector>

#include "supra/formats/weights/safetensors.h"

// Checksums in the metadata of a safetensors file, each a CRC-32 (that of zlib) as eight hexadecimal digits:
//   "crc32:NAME"   of the bytes of the tensor NAME
//   "crc32"        of the header, with zeros in place of these eight digits
// Readers that do not know these keys pass over them.

namespace supra {

// The checksums to write, in this order; that of the header is zeros until seal_header().
Metadata checksums_of(const NamedTensors& tensors);

// Puts the header's own checksum into its finished text, where it has a place for it.
void seal_header(std::string& header);

// A part of a file that has a checksum: "header", or a tensor by its name.
struct CheckedPart {
  std::string name;
  bool intact = false;
};

// Reads all of a safetensors file and compares. Empty where the file carries no checksums; a tensor without
// one in a file that has others is not intact. Throws Error for a header that cannot be read.
std::vector<CheckedPart> check_parts(const MappedFile& file);

// The same for a file that must be intact: throws Error naming what is damaged, or saying that the file
// carries no checksums.
void check_weights(const MappedFile& file);

}  // namespace supra
