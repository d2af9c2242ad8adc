#include "supra/training/checkpoint.h"

#include <algorithm>
#include <cstdlib>

#include "supra/formats/state_file.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/tokenizers/tokenizer_files.h"

namespace supra {

namespace fs = std::filesystem;

// The steps of a run's checkpoints, ascending: of the complete ones, or with the prefix of unfinished directories of those.
static std::vector<int64_t> steps_of(const Path& run, const std::string& prefix = "") {
  std::vector<int64_t> steps;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(prefix + "step-")) continue;
    const int64_t step = std::strtoll(&name[prefix.size() + 5], nullptr, 10);
    const std::string expected = prefix + checkpoint_path("", step).filename().string();
    // an unfinished one can have a suffix
    if (step >= 0 && (name == expected || (!prefix.empty() && name.starts_with(expected + ".")))) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

// Removes the unfinished files and directories of a run that was killed.
static void remove_unfinished_of(const Path& run) {
  for (const char* name : {"checkpoints", "merged", "config.json", "model.safetensors"}) remove_unfinished(run / name);
  for (const char* name : kTokenizerFiles) remove_unfinished(run / name);
  for (const int64_t step : steps_of(run, temporary_path("").filename())) remove_unfinished(checkpoint_path(run, step));
}

Path checkpoint_path(const Path& run, int64_t step) {
  return run / "checkpoints" / format("step-%06ld", static_cast<long>(step));
}

Path save_checkpoint(const Path& run, const Model& model, Optimizer& optimizer, const TrainingState& state, int64_t keep,
                     const NamedTensors& carried) {
  CHECK(keep >= 1, "%s: %ld checkpoints to keep, at least 1 is needed", run.c_str(), static_cast<long>(keep));
  NamedTensors moments;
  for (const Trained& p : optimizer.parameters()) {
    if (!p.m.defined()) continue;
    moments.push_back({"m." + p.name, p.m});
    moments.push_back({"v." + p.name, p.v});
  }
  const Path path = checkpoint_path(run, state.step);
  remove_unfinished_of(run);
  try {
    NewDirectory directory(path);
    write_model(model, directory.path());
    write_safetensors(directory.path() / "optimizer.safetensors", moments);
    if (!carried.empty()) write_safetensors(directory.path() / "memory.safetensors", carried);
    write_training_state(directory.path(), state);
    directory.commit();
  } catch (const Error& error) {
    const auto last = latest_checkpoint(run);
    const std::string before = last ? "the last complete checkpoint is " + last->string() : "no checkpoint was complete before";
    fail("%s; %s", error.what(), before.c_str());
  }
  const std::vector<int64_t> steps = steps_of(run);
  const auto best = best_checkpoint(run);
  for (size_t i = 0; i + static_cast<size_t>(keep) < steps.size(); i++) {
    const Path old = checkpoint_path(run, steps[i]);
    if (old != best && steps[i] != state.undo_step) remove_directory(old);
  }
  return path;
}

std::optional<Path> latest_checkpoint(const Path& run) {
  const std::vector<int64_t> steps = steps_of(run);
  return steps.empty() ? std::nullopt : std::optional(checkpoint_path(run, steps.back()));
}

std::optional<Path> best_checkpoint(const Path& run) {
  std::optional<Path> best;
  TrainingState of_best;
  const std::vector<int64_t> steps = steps_of(run);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    TrainingState state;
    try {
      state = read_training_state(checkpoint_path(run, *step));
    } catch (const Error&) {
      // one that cannot be read is not the best
    }
    if (state.valid_nll < 0) continue;
    const bool comparable = state.held_out == of_best.held_out && state.valid_tokens == of_best.valid_tokens;
    if (best && (!comparable || state.valid_nll >= of_best.valid_nll)) continue;
    best = checkpoint_path(run, *step);
    of_best = state;
  }
  return best;
}

void remove_checkpoints(const Path& run) {
  for (const int64_t step : steps_of(run)) remove_directory(checkpoint_path(run, step));
}

static bool same_bytes(const Path& a, const Path& b) {
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  return fs::exists(b, error) && MappedFile(a).text() == MappedFile(b).text();
}

// Whether a file in a run's folder would be read instead of the checkpoint's files, or in addition to them.
static bool read_instead(const std::string& name, const Path& checkpoint) {
  if (name.ends_with(".safetensors.index.json")) return true;
  if (fs::exists(checkpoint / name)) return false;
  const auto* const end = std::end(kTokenizerFiles);
  if (std::find(std::begin(kTokenizerFiles), end, name) == end) return false;
  // a tokenizer.json is preferred to every other vocabulary
  const bool settings = name.ends_with("_config.json") || name.ends_with("_map.json") || name.ends_with(".jinja");
  return settings || !fs::exists(checkpoint / "tokenizer.json");
}

// Renames a file to a free name and returns this name.
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
    if (name == "optimizer.safetensors" || name == "memory.safetensors" || name == "training.json" || name == config) continue;
    if (!same_bytes(entry.path(), run / name)) changed.push_back(name);
  }
  for (const auto& entry : fs::directory_iterator(run)) {
    if (read_instead(entry.path().filename(), checkpoint)) gone.push_back(entry.path());
  }
  std::error_code error;
  // one file is replaced in one step; while several are replaced, the folder has no config, so that it is no model
  if (changed.size() + gone.size() > 1 || !same_bytes(checkpoint / config, run / config)) {
    fs::remove(run / config, error);
    changed.push_back(config);
  }
  for (Path& path : gone) path = move_aside(path);
  sync_directory(run);
  for (const Path& name : changed) copy_file_atomically(checkpoint / name, run / name);
  return gone;
}

static std::string prefix_of(size_t part, const char* whose) { return format("part%zu.%s.", part, whose); }

// Calls f for each state, with the prefix of its tensors and its model.
template <class Carried, class F>
static void each_state(const Decoder& student, const Decoder* teacher, Carried& carried, F f) {
  for (size_t i = 0; i < carried.size(); i++) {
    f(prefix_of(i, "student"), &student, carried[i].student);
    f(prefix_of(i, "teacher"), teacher, carried[i].teacher);
  }
}

NamedTensors carried_tensors(const Decoder& student, const Decoder* teacher, const std::vector<CarriedStates>& carried) {
  NamedTensors tensors;
  each_state(student, teacher, carried, [&](const std::string& prefix, const Decoder* decoder, const State& state) {
    if (state.batch() == 0) return;
    const NamedTensors part = state_tensors(*decoder, state, prefix);
    tensors.insert(tensors.end(), part.begin(), part.end());
  });
  return tensors;
}

void read_carried_states(const Path& checkpoint, const Decoder& student, const Decoder* teacher, int64_t rows,
                         std::vector<CarriedStates>& carried) {
  const Path path = checkpoint / "memory.safetensors";
  if (!fs::exists(path)) return;
  const auto file = open_safetensors(path);
  const auto has = [&](const std::string& prefix) { return file->find(prefix + "positions") != nullptr; };
  CHECK(has(prefix_of(carried.size() - 1, "student")) && !has(prefix_of(carried.size(), "student")),
        "%s: has the states of carried rows for a different number of parts than %zu (give the same --accumulate)",
        path.c_str(), carried.size());
  each_state(student, teacher, carried, [&](const std::string& prefix, const Decoder* decoder, State& state) {
    if (has(prefix)) state = read_state(*file, *decoder, rows, prefix);
  });
}

TrainingState load_checkpoint(const Path& checkpoint, Model& model, Optimizer& optimizer) {
  load_weights(checkpoint, *model.decoder);
  const auto moments = open_safetensors(checkpoint / "optimizer.safetensors");
  for (Trained& p : optimizer.parameters()) {
    const auto read = [&](const std::string& name) {
      // a parameter that had no gradient in any step has no moments
      if (!moments->find(name)) return Tensor();
      const Tensor moment = empty_like(p.parameter.value());
      moment.copy_from(moments->get(name, moment.shape(), Dtype::f32));
      return moment;
    };
    p.m = read("m." + p.name);
    p.v = read("v." + p.name);
  }
  const TrainingState state = read_training_state(checkpoint);
  optimizer.set_steps(state.stage_steps);
  return state;
}

}  // namespace supra
