#include "supra/embed/timeline.h"

#include <algorithm>
#include <cstring>

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

// Calls f with the parts of a state of one row, as (layer, part, where its floats begin, how many bytes there
// are).
template <class F>
static void each_part(const Engine& engine, F f) {
  int64_t begin = 0;
  const auto& shapes = engine.state_shapes();
  for (size_t i = 0; i < shapes.size(); i++) {
    for (size_t k = 0; k < shapes[i].size(); k++) {
      const int64_t floats = numel(shapes[i][k]);
      f(i, k, begin, static_cast<size_t>(floats) * sizeof(float));
      begin += floats;
    }
  }
}

// Room for a copy of the states, kept for the next call: fresh pages would cost more than the copy.
static Tensor workspace(int64_t floats) {
  struct Workspace {
    Tensor room;
  };
  Tensor& room = kept().get<Workspace>().room;
  if (!room.defined() || room.numel() < floats) {
    room = {};
    room = Tensor::empty({floats});
  }
  return room;
}

State Timeline::gather(std::span<Timeline* const> timelines) {
  const Engine& engine = timelines[0]->engine_;
  State state;
  for (const Timeline* one : timelines) state.positions.push_back(one->position_);
  const Tensor room = workspace(state.batch() * static_cast<int64_t>(engine.fingerprint().floats));
  int64_t begin = 0;
  for (const std::vector<Shape>& shapes : engine.state_shapes()) {
    LayerState& layer = state.layers.emplace_back();
    for (Shape shape : shapes) {
      shape[0] = state.batch();
      const int64_t end = begin + numel(shape);
      layer.parts.emplace_back(room.rows(begin, end).view(shape));
      begin = end;
    }
  }
  parallel_for(state.batch(), 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; b++) {
      each_part(engine, [&](size_t i, size_t k, int64_t begin, size_t bytes) {
        char* const rows = static_cast<char*>(state.layers[i].parts[k].value().raw());
        memcpy(rows + b * static_cast<int64_t>(bytes), timelines[b]->state_.data<float>() + begin, bytes);
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
  // what each thread does from here on throws nothing
  parallel_for(state.batch(), 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; b++) {
      Timeline& one = *timelines[b];
      each_part(engine, [&](size_t i, size_t k, int64_t begin, size_t bytes) {
        const char* const rows = static_cast<const char*>(state.layers[i].parts[k].value().raw());
        memcpy(one.state_.data<float>() + begin, rows + b * static_cast<int64_t>(bytes), bytes);
      });
      one.position_ = state.positions[b];
      one.logits_ = std::move(rooms[b]);
      memcpy(one.logits_.raw(), logits.data<float>() + b * engine.vocabulary(), one.logits_.bytes());
    }
  });
}

void Timeline::note_text(int32_t id) {
  const Tokenizer* tokenizer = engine_.tokenizer();
  has_text_ = has_text_ || (tokenizer && id < tokenizer->size() && !tokenizer->is_special(id));
}

void Timeline::feed(std::span<const int32_t> ids) {
  if (ids.empty()) return;
  Timeline* const only = this;
  Session session(engine_.decoder(), gather({&only, 1}));
  const Tensor logits = session.feed(ids, engine_.progress());
  scatter(session.state(), logits, {&only, 1});
  for (const int32_t id : ids) note_text(id);
}

void Timeline::step(std::span<Timeline* const> timelines, std::span<const int32_t> ids) {
  if (timelines.empty()) return;
  Session session(timelines[0]->engine_.decoder(), gather(timelines));
  const Tensor logits = session.step(ids);
  scatter(session.state(), logits, timelines);
  for (size_t b = 0; b < timelines.size(); b++) timelines[b]->note_text(ids[b]);
}

Timeline::Said Timeline::say(int32_t id) const {
  Said said = {{}, stream_, has_text_};
  if (id < 0) {
    said.text = said.stream.flush();
    return said;
  }
  const Tokenizer& tokenizer = engine_.needed_tokenizer();
  // ids beyond the tokenizer's pad the vocabulary
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
  // up to 3 bytes: a string of that size takes no memory
  stream_.push(from.unfinished);
  memcpy(state_.raw(), from.state, state_.bytes());
  logits_ = std::move(logits);
  if (from.logits) memcpy(logits_.raw(), from.logits, logits_.bytes());
}

}  // namespace supra
