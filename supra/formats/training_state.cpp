#include "supra/formats/training_state.h"

#include <cmath>

#include "supra/formats/parse/json.h"

namespace supra {

// JSON has no NaN or infinity: such a loss counts as not measured
static Json to_json(double value) { return std::isfinite(value) ? value : -1.0; }
static Json to_json(int64_t value) { return value; }
static Json to_json(uint64_t value) { return static_cast<int64_t>(value); }
static Json to_json(const std::string& value) { return value; }

// The list of all fields and their names.
template <class State, class F>
static void each_field(State& s, F f) {
  f("step", s.step);
  f("tokens", s.tokens);
  f("position", s.position);
  f("seconds", s.seconds);
  f("valid_nll", s.valid_nll);
  f("made_by", s.made_by);
  f("seed", s.seed);
  f("stage", s.stage);
  f("stage_begin", s.stage_begin);
  f("stage_steps", s.stage_steps);
  f("stage_nll", s.stage_nll);
  f("mean_loss", s.mean_loss);
  f("mean_norm", s.mean_norm);
  f("batch_tokens", s.batch_tokens);
  f("sequence", s.sequence);
  f("corpus_tokens", s.corpus_tokens);
  f("packing", s.packing);
}

// Fields that checkpoints of older versions lack.
template <class State, class F>
static void each_newer_field(State& s, F f) {
  f("stage_name", s.stage_name);
  f("stage_tokens", s.stage_tokens);
  f("undo_step", s.undo_step);
  f("recipe", s.recipe);
  f("corpus", s.corpus);
  f("valid_tokens", s.valid_tokens);
  f("held_out", s.held_out);
  f("products", s.products);
  f("record", s.record);
}

void write_training_state(const Path& checkpoint, const TrainingState& state) {
  Json json = Json::object();
  const auto set = [&](const char* name, const auto& field) { json.set(name, to_json(field)); };
  each_field(state, set);
  each_newer_field(state, set);
  FileWriter out(checkpoint / "training.json");
  out.write(json.dump(true) + "\n");
  out.finish();
}

static void read(const Json& json, double& value) { value = json.as_number(); }
static void read(const Json& json, int64_t& value) { value = json.as_integer(); }
static void read(const Json& json, uint64_t& value) { value = static_cast<uint64_t>(json.as_integer()); }
static void read(const Json& json, std::string& value) { value = json.as_string(); }

TrainingState read_training_state(const Path& checkpoint) {
  const Json json = Json::load(checkpoint / "training.json");
  TrainingState state;
  each_field(state, [&](const char* name, auto& field) { read(json.at(name), field); });
  // older versions kept a checkpoint at the beginning of a stage, if they had validated there
  if (state.stage_nll >= 0) state.undo_step = state.stage_begin;
  state.stage_tokens = state.stage_begin * state.batch_tokens;
  each_newer_field(state, [&](const char* name, auto& field) {
    if (const Json* found = json.find(name)) read(*found, field);
  });
  return state;
}

}  // namespace supra
