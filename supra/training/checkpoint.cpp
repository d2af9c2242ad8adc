#include "supra/training/checkpoint.h"

#include <algorithm>

#include "supra/formats/json.h"
#include "supra/formats/safetensors.h"

namespace supra {

namespace fs = std::filesystem;

// Complete checkpoints of a run by step, the oldest first. Others in the folder are left alone.
static std::vector<std::pair<int64_t, Path>> checkpoints_of(const Path& run) {
  std::vector<std::pair<int64_t, Path>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("step-") || name.size() > 20 || name.find_first_not_of("0123456789", 5) != std::string::npos) continue;
    if (name.size() > 5) found.emplace_back(std::stoll(name.substr(5)), entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

static Json to_json(double value) { return value; }
static Json to_json(int64_t value) { return value; }
static Json to_json(uint64_t value) { return static_cast<int64_t>(value); }

// The one list of the fields and their names.
template <class State, class F>
static void each_field(State& s, F f) {
  f("step", s.step);
  f("tokens", s.tokens);
  f("position", s.position);
  f("seconds", s.seconds);
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
}

Path checkpoint_path(const Path& run, int64_t step) {
  return run / "checkpoints" / format("step-%06ld", static_cast<long>(step));
}

Path save_checkpoint(const Path& run, const Model& model, Optimizer& optimizer, const TrainingState& state, int keep) {
  const Path path = checkpoint_path(run, state.step);
  NewDirectory directory(path);
  write_model(model, directory.path());

  NamedTensors moments;
  for (const Optimizer::Slot& slot : optimizer.slots()) {
    if (!slot.m.defined()) continue;
    moments.push_back({"m." + slot.trained.name, slot.m});
    if (slot.v.defined()) moments.push_back({"v." + slot.trained.name, slot.v});
  }
  write_safetensors(directory.path() / "optimizer.safetensors", moments);

  Json json = Json::object();
  each_field(state, [&](const char* name, auto field) { json.set(name, to_json(field)); });
  FileWriter out(directory.path() / "training.json");
  out.write(json.dump(true) + "\n");
  out.finish();
  directory.commit();

  std::vector<std::pair<int64_t, Path>> all = checkpoints_of(run);
  std::error_code error;
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); i++) {
    if (all[i].first != state.stage_begin) fs::remove_all(all[i].second, error);
  }
  return path;
}

std::optional<Path> latest_checkpoint(const Path& run) {
  const auto all = checkpoints_of(run);
  if (all.empty()) return std::nullopt;
  return all.back().second;
}

void publish_checkpoint(const Path& checkpoint, const Path& run) {
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    const Path name = entry.path().filename();
    if (name == "optimizer.safetensors" || name == "training.json") continue;
    const Path beside = run / (".tmp-" + name.string());
    std::error_code error;
    fs::remove(beside, error);
    // a second name for the same bytes, or a copy where the file system has no links
    fs::create_hard_link(entry.path(), beside, error);
    if (error) fs::copy_file(entry.path(), beside);
    fs::rename(beside, run / name);
  }
}

TrainingState read_training_state(const Path& checkpoint) {
  const Json json = Json::load(checkpoint / "training.json");
  TrainingState state;
  each_field(state, [&](const char* name, auto& field) {
    if constexpr (std::is_same_v<std::remove_reference_t<decltype(field)>, double>) field = json.number(name);
    else field = static_cast<std::remove_reference_t<decltype(field)>>(json.integer(name));
  });
  return state;
}

TrainingState load_checkpoint(const Path& checkpoint, Model& model, Optimizer& optimizer) {
  load_weights(checkpoint, *model.decoder);

  const auto moments = open_safetensors(checkpoint / "optimizer.safetensors");
  const auto moment = [&](const std::string& name, const Var& parameter) {
    // a parameter that no gradient has reached yet has none
    return moments->find(name) ? moments->get(name, parameter.shape(), Dtype::f32).clone() : Tensor();
  };
  for (Optimizer::Slot& slot : optimizer.slots()) {
    slot.m = moment("m." + slot.trained.name, slot.trained.parameter);
    slot.v = moment("v." + slot.trained.name, slot.trained.parameter);
  }
  const TrainingState state = read_training_state(checkpoint);
  optimizer.set_steps(state.stage_steps);
  return state;
}

}  // namespace supra
