#pragma once
#include <memory>
#include <string>
#include <vector>

#include "nn/decoder.h"

namespace supra {

// What each part of a window student's layers is worth: the same weights, with parts of them left out.
struct PartsVariant {
  std::string parts;  // "all", "window", "far", "window+bytes", "none"
  std::shared_ptr<const Decoder> decoder;
};

// "all", "window" and "none". With far features also "far", and "window+bytes", where the bytes of each far state go to its
// window. Without far features "window" shares the decoder of "all". The student must outlive them. Throws Error without
// window layers.
std::vector<PartsVariant> parts_variants(Decoder& student);

}  // namespace supra
