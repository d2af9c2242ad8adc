#include "supra/embed/timeline.h"

#include <cstring>

#include "kernels/decode_heads.h"
#include "supra/inference/session.h"

namespace supra {

Timeline::Timeline(const Engine& engine)
    : engine_(engine), state_(Tensor::zeros({static_cast<int64_t>(engine.fingerprint().floats)})) {}

Timeline::Timeline(const Timeline& other)
    : engine_(other.engine_),
      position_(other.position_),
      has_text_(other.has_text_),
      stream_(other.stream_),
      state_(other.state_.clone()) {
  if (other.logits_.defined()) logits_ = other.logits_.clone();
}

Timeline& Timeline::operator=(const Timeline& other) {
  if (this != &other) restore(other.snapshot());
  return *this;
}

void Timeline::reset() {
  position_ = 0;
  has_text_ = false;
  stream_ = {};
  memset(state_.raw(), 0, state_.bytes());
  logits_ = {};
}

// Calls f(layer, part, first byte, description) for each part of a state of one row.
template <class F>
static void each_part(const Engine& engine, F f) {
  size_t begin = 0;
  const auto& layers = engine.state_parts();
  for (size_t i = 0; i < layers.size(); i++) {
    for (size_t k = 0; k < layers[i].size(); k++) {
      f(i, k, begin, layers[i][k]);
      begin += layers[i][k].bytes;
    }
  }
}

// Memory for a copy of the states. It is kept for the next call, because new pages would cost more than the copy.
static char* workspace(size_t bytes) {
  struct Workspace {
    Tensor room;
  };
  Tensor& room = kept().get<Workspace>().room;
  if (!room.defined() || room.bytes() < bytes) {
    room = {};
    room = Tensor::empty({static_cast<int64_t>(bytes)}, Dtype::u8);
  }
  return static_cast<char*>(room.raw());
}

State Timeline::gather(std::span<Timeline* const> timelines) {
  const Engine& engine = timelines[0]->engine_;
  State state;
  for (const Timeline* one : timelines) state.positions.push_back(one->position_);
  const size_t B = timelines.size();
  const auto is_copied = [&](const Engine::StatePart& part) { return B > 1 || !part.is_ring; };
  // each part is aligned for floats
  const auto room_for = [&](const Engine::StatePart& part) { return (B * part.bytes + 3) / 4 * 4; };
  size_t needed = 0;
  each_part(engine, [&](size_t, size_t, size_t, const Engine::StatePart& part) {
    if (is_copied(part)) needed += room_for(part);
  });
  char* room = workspace(needed);
  state.layers.resize(engine.state_parts().size());
  each_part(engine, [&](size_t i, size_t, size_t begin, const Engine::StatePart& part) {
    Shape shape = part.shape;
    shape[0] = state.batch();
    char* const memory = is_copied(part) ? room : static_cast<char*>(timelines[0]->state_.raw()) + begin;
    state.layers[i].parts.emplace_back(Tensor::wrap(memory, shape, part.dtype, nullptr));
    if (is_copied(part)) room += room_for(part);
  });
  parallel_for(state.batch(), 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; b++) {
      each_part(engine, [&](size_t i, size_t k, size_t begin, const Engine::StatePart& part) {
        char* const rows = static_cast<char*>(state.layers[i].parts[k].value().raw());
        if (is_copied(part))
          memcpy(rows + static_cast<size_t>(b) * part.bytes, static_cast<char*>(timelines[b]->state_.raw()) + begin, part.bytes);
      });
    }
  });
  return state;
}

void Timeline::scatter(const State& state, const Tensor& logits, std::span<Timeline* const> timelines) {
  const Engine& engine = timelines[0]->engine_;
  std::vector<Tensor> rooms;
  for (const Timeline* one : timelines)
    rooms.push_back(one->logits_.defined() ? one->logits_ : Tensor::empty({engine.vocabulary()}));
  // from here on nothing throws
  parallel_for(state.batch(), 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; b++) {
      Timeline& one = *timelines[b];
      each_part(engine, [&](size_t i, size_t k, size_t begin, const Engine::StatePart& part) {
        const char* const rows = static_cast<const char*>(state.layers[i].parts[k].value().raw());
        char* const own = static_cast<char*>(one.state_.raw()) + begin;
        if (rows != own) memcpy(own, rows + static_cast<size_t>(b) * part.bytes, part.bytes);
      });
      one.position_ = state.positions[b];
      one.logits_ = std::move(rooms[b]);
      memcpy(one.logits_.raw(), logits.data<float>() + b * engine.vocabulary(), one.logits_.bytes());
    }
  });
}

template <class F>
void Timeline::each_slot(F f) const {
  const int64_t sinks = engine_.decoder().config().sinks;
  each_part(engine_, [&](size_t, size_t, size_t begin, const Engine::StatePart& part) {
    if (!part.is_ring) return;
    const int64_t slots = part.shape[1], slot = ring_slot(position_, sinks, slots - sinks);
    const size_t bytes = part.bytes / static_cast<size_t>(slots);
    f(static_cast<char*>(state_.raw()) + begin + static_cast<size_t>(slot) * bytes, bytes);
  });
}

template <class F>
void Timeline::advance(std::span<Timeline* const> timelines, F f) {
  // A step overwrites the slot of a key that has left the window, after adding that key to the far state. If the step fails,
  // the slot must be restored for the next one. Longer calls make new rings.
  const Timeline& one = *timelines[0];
  std::string slots;
  if (timelines.size() == 1) one.each_slot([&](const char* slot, size_t bytes) { slots.append(slot, bytes); });
  try {
    Session session(one.engine_.decoder(), gather(timelines));
    const Tensor logits = f(session);
    scatter(session.state(), logits, timelines);
  } catch (...) {
    if (timelines.size() > 1) throw;
    const char* from = slots.data();
    one.each_slot([&](char* slot, size_t bytes) {
      memcpy(slot, from, bytes);
      from += bytes;
    });
    throw;
  }
}

void Timeline::note_text(int32_t id) {
  const Tokenizer* tokenizer = engine_.tokenizer();
  has_text_ = has_text_ || (tokenizer && id < tokenizer->size() && !tokenizer->is_special(id));
}

void Timeline::feed(std::span<const int32_t> ids) {
  if (ids.empty()) return;
  Timeline* const only = this;
  advance({&only, 1}, [&](Session& session) { return session.feed(ids, engine_.progress()); });
  for (const int32_t id : ids) note_text(id);
}

void Timeline::step(std::span<Timeline* const> timelines, std::span<const int32_t> ids) {
  if (timelines.empty()) return;
  advance(timelines, [&](Session& session) { return session.step(ids); });
  for (size_t b = 0; b < timelines.size(); b++) timelines[b]->note_text(ids[b]);
}

Timeline::Said Timeline::say(int32_t id) const {
  Said said = {{}, stream_, has_text_};
  if (id < 0) {
    said.text = said.stream.flush();
    return said;
  }
  const Tokenizer& tokenizer = engine_.needed_tokenizer();
  // ids beyond the tokenizer's only pad the vocabulary
  const std::string piece = id < tokenizer.size() ? tokenizer.piece(id, !has_text_) : "";
  said.text = said.stream.push(piece);
  said.has_text = has_text_ || !piece.empty();
  return said;
}

void Timeline::said(Said&& said) {
  stream_ = std::move(said.stream);
  has_text_ = said.has_text;
}

Snapshot Timeline::snapshot() const { return {position_, has_text_, stream_.held(), state_.raw(), logits()}; }

void Timeline::restore(const Snapshot& from) {
  Tensor logits;
  if (from.logits) logits = logits_.defined() ? logits_ : Tensor::empty({engine_.vocabulary()});
  position_ = from.position;
  has_text_ = from.has_text;
  stream_ = {};
  // at most 3 bytes: such a short string allocates nothing
  stream_.push(from.unfinished);
  memcpy(state_.raw(), from.state, state_.bytes());
  logits_ = std::move(logits);
  if (from.logits) memcpy(logits_.raw(), from.logits, logits_.bytes());
}

}  // namespace supra
