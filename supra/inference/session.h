#pragma once
#include <functional>
#include <span>
#include <vector>

#include "supra/model.h"

namespace supra {

// B sequences being read and written by one model: weights are shared, the state is the session's own. Prompts go in
// through the chunked form, whatever their lengths; tokens come out through the recurrent one.
class Session {
 public:
  explicit Session(const Decoder& decoder, int64_t batch = 1);
  Session(const Decoder& decoder, State state);  // whose memory it writes to

  // Reads ids[b] into row b (rows may differ in length, an empty row stays as it is) and returns the logits after the
  // last id of each row, (B,O); a row that got nothing keeps its logits from before. `progress` is told what part is done,
  // a layer of a piece at a time; if it throws, the state is of no use any more.
  using Progress = std::function<void(double done)>;
  Tensor feed(const std::vector<std::vector<int32_t>>& ids, const Progress& progress = {});
  Tensor feed(std::span<const int32_t> ids, const Progress& progress = {});  // B = 1

  // One token a row; the recurrent step.
  Tensor step(std::span<const int32_t> ids);

  const Tensor& logits() const { return logits_; }  // (B,O) of the last call; undefined before the first
  int64_t position(int64_t row = 0) const { return state_.positions[row]; }
  size_t state_bytes() const;                       // of all rows, now

  const State& state() const { return state_; }
  // The past becomes another one; feed or step before logits() are asked for.
  void set_state(State state);
  void reset();

  // The state and the last logits in a file of their own (safetensors). Loading one that belongs to a model of another
  // shape, or to another number of sequences, throws Error and changes nothing.
  void save(const Path& path) const;
  void load(const Path& path);

 private:
  const Decoder& decoder_;
  State state_;
  Tensor logits_;
};

}  // namespace supra
