#pragma once
#include <span>

#include "supra/embed/engine.h"
#include "supra/tokenizers/text_stream.h"

namespace supra {

// The session of supra.h, in the least memory: the parts of its state one after the other, and the logits once
// there are some. Each call computes on a copy of the state, so a failed call changes nothing. Most of the state of
// window layers is rings, and a step writes one slot of them. A step of a single timeline therefore writes to its own
// memory, and only that slot is copied.
class Timeline {
 public:
  explicit Timeline(const Engine& engine);
  Timeline(const Timeline& other);             // a timeline that continues from the same point
  Timeline& operator=(const Timeline& other);  // `other` must be of the same engine; throws before anything is changed

  const Engine& engine() const { return engine_; }
  int64_t position() const { return position_; }
  const float* logits() const {
    return logits_.defined() ? logits_.data<float>() : nullptr;
  }  // null before the first id

  void reset();
  void feed(std::span<const int32_t> ids);
  // One id for each timeline; all must be different timelines of one engine.
  static void step(std::span<Timeline* const> timelines, std::span<const int32_t> ids);

  // The text that an id adds, and the new state of unfinished characters once the caller has taken it.
  struct Said {
    std::string text;
    TextStream stream;
    bool has_text;
  };
  Said say(int32_t id) const;  // -1: the end
  void said(Said&& said);

  Snapshot snapshot() const;
  // From a blob of this engine's model (read_blob).
  void restore(const Snapshot& snapshot);

 private:
  // Computes f(a session of these timelines), which returns logits (B,O), and takes over the session's state.
  template <class F>
  static void advance(std::span<Timeline* const> timelines, F f);
  // Their states as one batch (B,...): a copy, except for the rings of a single timeline.
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
