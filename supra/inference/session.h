#pragma once
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "supra/inference/cuda_step_graph.h"
#include "supra/model.h"

namespace supra {

// B sequences being read and written by one model: weights are shared, the state is the session's own. Prompts go in
// through the chunked form, whatever their lengths; tokens come out through the recurrent one. The decoder and its
// parameters stay where they are as long as the session lives: on a GPU it records its step (cuda_step_graph.h).
class Session {
 public:
  explicit Session(const Decoder& decoder, int64_t batch = 1);
  explicit Session(const Model& model, int64_t batch = 1);  // whose saved states name the model
  Session(const Decoder& decoder, State state);  // whose memory it writes to

  // Reads ids[b] into row b (rows may differ in length, an empty row stays as it is) and returns the logits after the
  // last id of each row, (B,O); a row that got nothing keeps its logits from before. `progress` is called after each layer
  // of each piece of 512 tokens, with the part that is done. If it throws, the session's state is invalid.
  using Progress = std::function<void(double done)>;
  Tensor feed(const std::vector<std::vector<int32_t>>& ids, const Progress& progress = {});
  Tensor feed(std::span<const int32_t> ids, const Progress& progress = {});  // B = 1

  // One token a row; the recurrent step.
  Tensor step(std::span<const int32_t> ids);
  // The same where nobody asks the processor for the logits.
  void advance(std::span<const int32_t> ids);

  // (B,O) of the last call, f32 on the CPU; undefined before the first
  Tensor logits() const;
  // The same where the model is, as it computes, until the next call.
  const Tensor& logits_there() const { return logits_; }
  int64_t position(int64_t row = 0) const { return state_.positions[row]; }
  size_t state_bytes() const;                       // of all rows, now

  const State& state() const { return state_; }
  // The past becomes another one; feed or step before logits() are asked for.
  void set_state(State state);
  void reset();

  // Steps go without a graph where this was called with false, or SUPRA_GRAPH=off is in the environment.
  void use_graph(bool on) { graphs_ = on; }
  std::string why_no_graph() const;  // empty where steps are recorded, from the second on

  // The state and the last logits in a file of their own (safetensors), which is replaced when the new one is complete: a
  // save that fails leaves the old file as it was. Loading one that belongs to a model of another shape, or to another
  // number of sequences, throws Error and changes nothing. So does loading that of another model of the same shape, where
  // file and session both know theirs. Returns a note where that could not be checked; "" otherwise.
  void save(const Path& path) const;
  std::string load(const Path& path);

 private:
  const Decoder& decoder_;
  std::optional<Fingerprint> model_;
  State state_;
  Tensor logits_;
  // a session that begins with a state is a host's, made anew for each call: nothing could be recorded
  bool graphs_ = false;
  std::unique_ptr<StepGraph> graph_;
};

}  // namespace supra
