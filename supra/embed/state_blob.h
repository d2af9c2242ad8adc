#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "supra/formats/fingerprint.h"

// A session's state as bytes. Little-endian:
//   BlobHeader, floats of the state, floats of the logits (zeros before the first id), u64 checksum of all
//   before it

namespace supra {

// A whole session. The floats need not be aligned: they may be in a caller's buffer.
struct Snapshot {
  int64_t position = 0;
  bool has_text = false;        // some text was read or written
  std::string_view unfinished;  // up to 3 bytes of a character
  const void* state = nullptr;
  const void* logits = nullptr;  // null before the first id
};

size_t blob_bytes(const Fingerprint& model);

// Writes blob_bytes() bytes. Does not throw.
void write_blob(const Fingerprint& model, const Snapshot& session, void* to);

// Writes the checksum of a blob of at least 8 bytes into its last 8.
void seal_blob(void* blob, size_t bytes);

// Views into `from`. Throws Error if it is not a state, of another version, cut short, damaged, of another dtype
// or of another model, and says which.
Snapshot read_blob(const Fingerprint& model, const void* from, size_t bytes);

}  // namespace supra
