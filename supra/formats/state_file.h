#pragma once
#include "nn/decoder.h"
#include "supra/formats/weights.h"

// The state of a model as named tensors, beside whatever else a file holds.

namespace supra {

// What a saved state may have read at most: enough for any text, and far from overflow.
inline constexpr int64_t kLastPosition = int64_t{1} << 53;

// positions (B) i64 and layers.<i>.state.<k>, each behind `prefix`. A KV cache has the steps that were written, without the
// room for more.
NamedTensors state_tensors(const Decoder& decoder, const State& state, const std::string& prefix = "");

// Reads them back for B sequences. Throws Error where they belong to a model of another shape or to another number of
// sequences, or cannot be.
State read_state(const WeightReader& file, const Decoder& decoder, int64_t batch, const std::string& prefix = "");

}  // namespace supra
