#pragma once
#include <span>

#include "supra/embed/engine.h"
#include "supra/tokenizers/text_stream.h"

namespace supra {

// What supra.h calls a session, in as little memory as holds it: the parts of its state in a row, and logits
// once there are some. Each call computes on a copy of the state, and nothing has happened unless all of it
// did. The rings of window layers are most of a state, and a step writes one slot of them: where one timeline
// makes a step, it does so in its own memory, and only the slot is copied.
class Timeline {
 public:
  explicit Timeline(const Engine& engine);
  Timeline(const Timeline& other);             // another one that goes on from the same point
  Timeline& operator=(const Timeline& other);  // of the same engine; throws before anything is changed

  const Engine& engine() const { return engine_; }
  int64_t position() const { return position_; }
  const float* logits() const {
    return logits_.defined() ? logits_.data<float>() : nullptr;
  }  // null before the first id

  void reset();
  void feed(std::span<const int32_t> ids);
  // One id each; all different, of one engine.
  static void step(std::span<Timeline* const> timelines, std::span<const int32_t> ids);

  // What an id adds to the text, and what the timeline is told when that was taken.
  struct Said {
    std::string text;
    TextStream stream;
    bool has_text;
  };
  Said say(int32_t id) const;  // -1: the end
  void said(Said&& said);

  Snapshot snapshot() const;
  // Of this engine's model (read_blob).
  void restore(const Snapshot& snapshot);

 private:
  // Computes f(a session of theirs), the logits (B,O), and takes over its state.
  template <class F>
  static void advance(std::span<Timeline* const> timelines, F f);
  // Their states as one, (B,...): a copy, but for the rings of a single one.
  static State gather(std::span<Timeline* const> timelines);
  // The reverse, with the logits. Throws before anything is changed.
  static void scatter(const State& state, const Tensor& logits, std::span<Timeline* const> timelines);
  // Calls f(memory, bytes) with the slots that the next step writes.
  template <class F>
  void each_slot(F f) const;
  void note_text(int32_t id);

  const Engine& engine_;
  int64_t position_ = 0;
  bool has_text_ = false;
  TextStream stream_;
  Tensor state_, logits_;
};

}  // namespace supra
