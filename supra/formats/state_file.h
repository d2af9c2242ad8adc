#pragma once
#include <optional>

#include "nn/decoder.h"
#include "supra/formats/fingerprint.h"
#include "supra/formats/weights/weights.h"

// The state of a model: as named tensors, beside whatever else a file holds, and in a file of its own (safetensors).

namespace supra {

// What a saved state may have read at most: enough for any text, and far from overflow.
inline constexpr int64_t kLastPosition = int64_t{1} << 53;

// positions (B) i64 and layers.<i>.state.<k>, each behind `prefix`. A KV cache has the steps that were written, without the
// room for more.
NamedTensors state_tensors(const Decoder& decoder, const State& state, const std::string& prefix = "");

// Reads them back for B sequences. Throws Error where they belong to a model of another shape or to another number of
// sequences, or cannot be.
State read_state(const WeightReader& file, const Decoder& decoder, int64_t batch, const std::string& prefix = "");

// A state with the logits behind its last step, where there are any, in a file that is replaced when the new one is complete.
// `model`: which model it belongs to, where that is known.
void write_state_file(const Path& path, const Decoder& decoder, const State& state, const Tensor& logits,
                      const std::optional<Fingerprint>& model);

struct SavedState {
  State state;
  Tensor logits;     // (B,O) f32 on the CPU, or undefined
  std::string note;  // for the user, where it could not be checked that this model saved it; "" otherwise
};
// Reads them back for B sequences. Throws Error where another model saved them, as far as file and caller know theirs.
SavedState read_state_file(const Path& path, const Decoder& decoder, int64_t batch, const std::optional<Fingerprint>& model);

}  // namespace supra
