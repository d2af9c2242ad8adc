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

// "all", "window" and "none"; where a layer has far features "far" too, and "window+bytes", where each layer's window has the
// bytes of its far state instead. Where none has, "window" is the decoder of "all". The student outlives them. Throws Error
// where it has no window layers.
std::vector<PartsVariant> parts_variants(Decoder& student);

}  // namespace supra
