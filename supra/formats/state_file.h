#pragma once
#include <optional>

#include "nn/decoder.h"
#include "supra/formats/fingerprint.h"
#include "supra/formats/weights/weights.h"

// The recurrent state of a model as named tensors of a larger file, or in a separate safetensors file.

namespace supra {

// The largest position of a saved state: enough for any text, and far from overflow.
inline constexpr int64_t kLastPosition = int64_t{1} << 53;

// positions (B) i64 and layers.<i>.state.<k>, each after `prefix`. Of a KV cache only the steps that were written.
NamedTensors state_tensors(const Decoder& decoder, const State& state, const std::string& prefix = "");

// Reads them back for B sequences. Throws Error if they are damaged, or of another shape or number of sequences.
State read_state(const WeightReader& file, const Decoder& decoder, int64_t batch, const std::string& prefix = "");

// Writes a state, with the logits after its last step if they are defined. The old file is replaced when the new one is
// complete. `model`: the model it belongs to, if that is known.
void write_state_file(const Path& path, const Decoder& decoder, const State& state, const Tensor& logits,
                      const std::optional<Fingerprint>& model);

struct SavedState {
  State state;
  Tensor logits;     // (B,O) f32 on the CPU, or undefined
  std::string note;  // tells the user that the model could not be checked; usually ""
};
// Reads it back for B sequences. Throws Error if another model saved it, as far as file and caller say which.
SavedState read_state_file(const Path& path, const Decoder& decoder, int64_t batch, const std::optional<Fingerprint>& model);

}  // namespace supra
