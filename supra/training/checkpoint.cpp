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

Path save_checkpoint(const Path& run, const Model& model, Adamw& optimizer, const TrainingState& state, int keep) {
  const Path path = run / "checkpoints" / format("step-%06ld", static_cast<long>(state.step));
  NewDirectory directory(path);
  write_model(model, directory.path());

  NamedTensors moments;
  for (const Adamw::Slot& slot : optimizer.slots()) {
    if (!slot.m.defined()) continue;
    moments.push_back({"m." + slot.name, slot.m});
    moments.push_back({"v." + slot.name, slot.v});
  }
  write_safetensors(directory.path() / "optimizer.safetensors", moments);

  Json json = Json::object();
  json.set("step", state.step);
  json.set("tokens", state.tokens);
  json.set("position", state.position);
  json.set("seconds", state.seconds);
  json.set("seed", static_cast<int64_t>(state.seed));
  json.set("batch_tokens", state.batch_tokens);
  json.set("sequence", state.sequence);
  json.set("corpus_tokens", state.corpus_tokens);
  FileWriter out(directory.path() / "training.json");
  out.write(json.dump(true) + "\n");
  out.finish();
  directory.commit();

  std::vector<std::pair<int64_t, Path>> all = checkpoints_of(run);
  std::error_code error;
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); i++) fs::remove_all(all[i].second, error);
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

TrainingState load_checkpoint(const Path& checkpoint, Model& model, Adamw& optimizer) {
  load_weights(checkpoint, *model.decoder);

  const auto moments = open_safetensors(checkpoint / "optimizer.safetensors");
  for (Adamw::Slot& slot : optimizer.slots()) {
    // a parameter that no gradient has reached yet has none
    if (!moments->find("m." + slot.name)) continue;
    slot.m = moments->get("m." + slot.name, slot.parameter.shape(), Dtype::f32).clone();
    slot.v = moments->get("v." + slot.name, slot.parameter.shape(), Dtype::f32).clone();
  }

  const Json json = Json::load(checkpoint / "training.json");
  TrainingState state;
  state.step = json.integer("step");
  state.tokens = json.integer("tokens");
  state.position = json.integer("position");
  state.seconds = json.number("seconds");
  state.seed = static_cast<uint64_t>(json.integer("seed"));
  state.batch_tokens = json.integer("batch_tokens");
  state.sequence = json.integer("sequence");
  state.corpus_tokens = json.integer("corpus_tokens");
  optimizer.set_steps(state.step);
  return state;
}

}  // namespace supra
