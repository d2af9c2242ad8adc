#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// What each part of a window student's layers contributes: the same weights with some parts switched off.
struct PartsVariant {
  std::string parts;  // "all", "window", "far", "window+bytes", "none"
  std::shared_ptr<const Decoder> decoder;
};

// "all", "window" and "none". With far features also "far", and "window+bytes", where a larger window replaces each far state
// at the same size. Without far features "window" shares the decoder of "all". The student must outlive them. Throws Error if
// there are no window layers.
std::vector<PartsVariant> parts_variants(Decoder& student);

}  // namespace supra
