#pragma once
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "supra/inference/cuda_step_graph.h"
#include "supra/model.h"

namespace supra {

// B sequences that one model reads and continues. Weights are shared; the state belongs to the session. The decoder and its
// parameters must stay in place as long as the session lives, because on a GPU it records its step (cuda_step_graph.h).
class Session {
 public:
  explicit Session(const Decoder& decoder, int64_t batch = 1);
  explicit Session(const Model& model, int64_t batch = 1);  // saved states contain the model's fingerprint
  Session(const Decoder& decoder, State state);  // writes to the memory of `state`

  // Reads ids[b] into row b and returns the logits (B,O) after the last id of each row; those of an empty row do not change.
  // `progress` is called often, with the part that is done. If it throws, the session's state is invalid.
  using Progress = std::function<void(double done)>;
  Tensor feed(const std::vector<std::vector<int32_t>>& ids, const Progress& progress = {});
  Tensor feed(std::span<const int32_t> ids, const Progress& progress = {});  // B = 1

  // One token per row: the recurrent step.
  Tensor step(std::span<const int32_t> ids);
  // The same, without copying the logits to the CPU.
  void advance(std::span<const int32_t> ids);

  Tensor logits() const;  // (B,O) of the last call, f32 on the CPU; undefined before the first
  // The same on the model's device, in the dtype of the computation, valid until the next call.
  const Tensor& logits_there() const { return logits_; }
  int64_t position(int64_t row = 0) const { return state_.positions[row]; }
  size_t state_bytes() const;                       // of all rows, now

  const State& state() const { return state_; }
  // Replaces the past; call feed or step before logits().
  void set_state(State state);
  void reset();

  // Steps run without a graph after a call with false, or if SUPRA_GRAPH=off is in the environment.
  void use_graph(bool on) { graphs_ = on; }
  std::string why_no_graph() const;  // empty if steps are recorded, which begins with the second one

  // Saves the state and the last logits in a file (safetensors). If saving fails, an old file of that name stays intact.
  // Loading throws Error and changes nothing if another model, or another number of sequences, was saved. Returns a note if a
  // fingerprint was missing, so that the model could not be compared; "" otherwise.
  void save(const Path& path) const;
  std::string load(const Path& path);

 private:
  const Decoder& decoder_;
  std::optional<Fingerprint> model_;
  State state_;
  Tensor logits_;
  // hosts make a session from a state for one call, which is too short to record a step
  bool graphs_ = false;
  std::unique_ptr<StepGraph> graph_;
};

}  // namespace supra
