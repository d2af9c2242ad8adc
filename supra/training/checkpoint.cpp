#include "supra/training/checkpoint.h"

#include <algorithm>

#include "supra/formats/weights/safetensors.h"
#include "supra/tokenizers/tokenizer_files.h"

namespace supra {

namespace fs = std::filesystem;

// The step in a name that checkpoint_path() gives; -1 for every other name.
static int64_t step_of(std::string_view name) {
  if (!name.starts_with("step-") || name.size() < 6 || name.size() > 20) return -1;
  if (name.find_first_not_of("0123456789", 5) != std::string_view::npos) return -1;
  const int64_t step = std::stoll(std::string(name.substr(5)));
  return checkpoint_path("", step).filename() == name ? step : -1;
}

// Complete checkpoints of a run by step, the oldest first. Others in the folder are left alone.
static std::vector<std::pair<int64_t, Path>> checkpoints_of(const Path& run) {
  std::vector<std::pair<int64_t, Path>> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    const int64_t step = step_of(entry.path().filename().string());
    if (step >= 0) found.emplace_back(step, entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

// Removes what a run that was killed left half written.
static void remove_unfinished_of(const Path& run) {
  for (const char* name : {"checkpoints", "merged", "config.json", "model.safetensors"})
    remove_unfinished(run / name);
  for (const char* name : kTokenizerFiles) remove_unfinished(run / name);
  std::vector<Path> unfinished;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    std::string name = entry.path().filename();
    const std::string prefix = temporary_path("").filename();
    if (!name.starts_with(prefix)) continue;
    name = name.substr(prefix.size(), name.find('.', prefix.size()) - prefix.size());
    if (step_of(name) >= 0) unfinished.push_back(run / "checkpoints" / name);
  }
  for (const Path& path : unfinished) remove_unfinished(path);
}

Path checkpoint_path(const Path& run, int64_t step) {
  return run / "checkpoints" / format("step-%06ld", static_cast<long>(step));
}

static void write_checkpoint(const Path& directory, const Model& model, Optimizer& optimizer,
                             const TrainingState& state, const NamedTensors& carried) {
  write_model(model, directory);

  NamedTensors moments;
  for (const Optimizer::Slot& slot : optimizer.slots()) {
    if (!slot.m.defined()) continue;
    moments.push_back({"m." + slot.trained.name, slot.m});
    moments.push_back({"v." + slot.trained.name, slot.v});
  }
  write_safetensors(directory / "optimizer.safetensors", moments);
  if (!carried.empty()) write_safetensors(directory / "memory.safetensors", carried);

  write_training_state(directory, state);
}

Path save_checkpoint(const Path& run, const Model& model, Optimizer& optimizer, const TrainingState& state,
                     int keep, const NamedTensors& carried) {
  CHECK(keep >= 1, "%s: %d checkpoints to keep, at least 1 is needed", run.c_str(), keep);
  const Path path = checkpoint_path(run, state.step);
  remove_unfinished_of(run);
  try {
    NewDirectory directory(path);
    write_checkpoint(directory.path(), model, optimizer, state, carried);
    directory.commit();
  } catch (const Error& error) {
    const auto last = latest_checkpoint(run);
    fail("%s; %s", error.what(),
         last ? ("the last complete checkpoint is " + last->string()).c_str()
              : "no checkpoint was complete before");
  }

  const auto all = checkpoints_of(run);
  const auto best = best_checkpoint(run);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); i++) {
    if (all[i].second != best && all[i].first != state.undo_step) remove_directory(all[i].second);
  }
  return path;
}

std::optional<Path> latest_checkpoint(const Path& run) {
  const auto all = checkpoints_of(run);
  if (all.empty()) return std::nullopt;
  return all.back().second;
}

std::optional<Path> best_checkpoint(const Path& run) {
  std::optional<Path> best;
  TrainingState of_best, last;
  const auto all = checkpoints_of(run);
  for (auto at = all.rbegin(); at != all.rend(); ++at) {
    TrainingState state;
    try {
      state = read_training_state(at->second);
    } catch (const Error&) {
      // one that cannot be read is not the best
    }
    if (state.valid_nll < 0) continue;
    if (!best) last = state;
    const bool comparable = state.held_out == last.held_out && state.valid_tokens == last.valid_tokens;
    if (!comparable || (best && state.valid_nll >= of_best.valid_nll)) continue;
    of_best = state;
    best = at->second;
  }
  return best;
}

void remove_checkpoints(const Path& run) {
  for (const auto& [step, path] : checkpoints_of(run)) remove_directory(path);
}

static bool same_bytes(const Path& a, const Path& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  return fs::exists(b, error) && MappedFile(a).text() == MappedFile(b).text();
}

// Whether a file of a run's folder would be read instead of what a checkpoint has, or beside it.
static bool read_instead(const std::string& name, const Path& checkpoint) {
  if (name.ends_with(".safetensors.index.json")) return true;
  if (fs::exists(checkpoint / name)) return false;
  const auto* const end = std::end(kTokenizerFiles);
  if (std::find(std::begin(kTokenizerFiles), end, name) == end) return false;
  // a tokenizer.json is preferred to every other vocabulary
  const bool settings =
      name.ends_with("_config.json") || name.ends_with("_map.json") || name.ends_with(".jinja");
  return settings || !fs::exists(checkpoint / "tokenizer.json");
}

// Renames a file to a name that nobody has; returns that.
static Path move_aside(const Path& path) {
  Path aside = path.string() + ".replaced";
  for (int i = 2; fs::exists(aside); i++) aside = format("%s.replaced-%d", path.c_str(), i);
  std::error_code error;
  fs::rename(path, aside, error);
  CHECK(!error, "%s: cannot be renamed to %s: %s", path.c_str(), aside.c_str(), error.message().c_str());
  return aside;
}

std::vector<Path> publish_checkpoint(const Path& checkpoint, const Path& run) {
  const Path config = "config.json";
  std::vector<Path> changed, gone;
  for (const auto& entry : fs::directory_iterator(checkpoint)) {
    const Path name = entry.path().filename();
    if (name == "optimizer.safetensors" || name == "memory.safetensors" || name == "training.json" ||
        name == config)
      continue;
    if (!same_bytes(entry.path(), run / name)) changed.push_back(name);
  }
  for (const auto& entry : fs::directory_iterator(run)) {
    if (read_instead(entry.path().filename(), checkpoint)) gone.push_back(entry.path());
  }
  std::error_code error;
  // one file is replaced in one step; of several, some would be old, and a folder without a config is no
  // model
  if (changed.size() + gone.size() > 1 || !same_bytes(checkpoint / config, run / config)) {
    fs::remove(run / config, error);
    changed.push_back(config);
  }
  for (Path& path : gone) path = move_aside(path);
  sync_directory(run);
  for (const Path& name : changed) copy_file_atomically(checkpoint / name, run / name);
  return gone;
}

std::unique_ptr<WeightReader> open_carried_states(const Path& checkpoint) {
  const Path path = checkpoint / "memory.safetensors";
  return fs::exists(path) ? open_safetensors(path) : nullptr;
}

TrainingState load_checkpoint(const Path& checkpoint, Model& model, Optimizer& optimizer) {
  load_weights(checkpoint, *model.decoder);

  const auto moments = open_safetensors(checkpoint / "optimizer.safetensors");
  const auto moment = [&](const std::string& name, const Var& parameter) {
    // a parameter that no gradient has reached yet has none
    if (!moments->find(name)) return Tensor();
    const Tensor read = moments->get(name, parameter.shape(), Dtype::f32),
                 own = empty_like(parameter.value());
    own.copy_from(read);
    return own;
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
