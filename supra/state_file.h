#pragma once
#include "nn/decoder.h"
#include "supra/formats/weights.h"

// The state of a model as named tensors, beside whatever else a file holds.

namespace supra {

// What a saved state may have read at most: enough for any text, and far from overflow.
inline constexpr int64_t kLastPosition = int64_t{1} << 53;

// The state with its KV caches cut to the steps that were written: the room for more is not worth saving. What is not cut
// shares its memory with the original.
State without_spare_room(const Decoder& decoder, const State& state);

// positions (B) i64 and layers.<i>.state.<k>, each behind `prefix`.
NamedTensors state_tensors(const State& state, const std::string& prefix = "");

// Reads them back for B sequences. Throws Error where they belong to a model of another shape or to another number of
// sequences, or cannot be.
State read_state(const WeightReader& file, const Decoder& decoder, int64_t batch, const std::string& prefix = "");

}  // namespace supra
