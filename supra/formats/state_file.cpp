#include "supra/formats/state_file.h"

#include <algorithm>

#include "supra/formats/weights/safetensors.h"

namespace supra {

static std::string part_name(size_t layer, size_t part) { return format("layers.%zu.state.%zu", layer, part); }

// The first n steps of a cache (B,S,...).
static Tensor first_steps(const Tensor& cache, int64_t n) {
  Shape cut = cache.shape(), row(cut.begin() + 1, cut.end());
  cut[1] = n;
  const Tensor written = Tensor::empty(cut, cache.dtype(), cache.device());
  for (int64_t b = 0; n > 0 && b < cut[0]; b++) {
    written.rows(b, b + 1).copy_from(cache.rows(b, b + 1).view(row).rows(0, n));
  }
  return written;
}

NamedTensors state_tensors(const Decoder& decoder, const State& state, const std::string& prefix) {
  NamedTensors tensors = {{prefix + "positions", Tensor::of(state.positions)}};
  const int64_t steps = state.positions.empty() ? 0 : *std::max_element(state.positions.begin(), state.positions.end());
  for (size_t i = 0; i < state.layers.size(); i++) {
    const std::vector<Var>& parts = state.layers[i].parts;
    const bool is_cache = decoder.mixer(static_cast<int64_t>(i)).kind() == MixerKind::softmax;
    for (size_t k = 0; k < parts.size(); k++) {
      const Tensor& part = parts[k].value();
      const bool has_room = is_cache && steps >= 0 && steps < part.dim(1);
      // a cache on the GPU may be bf16
      tensors.push_back({prefix + part_name(i, k), (has_room ? first_steps(part, steps) : part).to(Dtype::f32)});
    }
  }
  return tensors;
}

State read_state(const WeightReader& file, const Decoder& decoder, int64_t batch, const std::string& prefix) {
  State state = decoder.init_state(batch);
  const Tensor positions = file.get(prefix + "positions", {batch}, Dtype::i64);
  std::copy_n(positions.data<int64_t>(), batch, state.positions.begin());
  const auto [least, most] = std::minmax_element(state.positions.begin(), state.positions.end());
  CHECK(*least >= 0 && *most <= kLastPosition, "%s: has the position %ld (the file is damaged)", file.path().c_str(),
        static_cast<long>(*least < 0 ? *least : *most));
  for (size_t i = 0; i < state.layers.size(); i++) {
    for (size_t k = 0; k < state.layers[i].parts.size(); k++) {
      const std::string name = prefix + part_name(i, k);
      const Tensor part = file.get(name);
      Shape expected = state.layers[i].parts[k].shape();
      // a KV cache may have more steps than were written
      if (decoder.mixer(static_cast<int64_t>(i)).kind() == MixerKind::softmax && part.rank() == 4) {
        expected[1] = std::max(part.dim(1), *most);
      }
      CHECK(part.shape() == expected && part.dtype() == Dtype::f32,
            "%s: %s is %s, this model needs %s (the state belongs to another model)", file.path().c_str(), name.c_str(),
            to_string(part.shape()).c_str(), to_string(expected).c_str());
      const Tensor own = Tensor::empty(part.shape(), state.layers[i].parts[k].dtype(), decoder.device());
      own.copy_from(part);
      state.layers[i].parts[k] = Var(own);
    }
  }
  return state;
}

void write_state_file(const Path& path, const Decoder& decoder, const State& state, const Tensor& logits,
                      const std::optional<Fingerprint>& model) {
  NamedTensors tensors = state_tensors(decoder, state);
  if (logits.defined()) tensors.push_back({"logits", logits});
  Metadata metadata = {{"format", "supra state"}};
  if (model) metadata.insert(metadata.end(), {{"model", to_text(*model)}, {"dtype", model->dtype}});
  const Path unfinished = temporary_path(path);
  write_safetensors(unfinished, tensors, metadata);
  replace_file(unfinished, path);
}

// Throws Error for a state that another model saved. Returns a note if that cannot be determined.
static std::string check_model(const MappedFile& file, const Fingerprint& model) {
  std::string its, dtype;
  for (const auto& [key, text] : read_metadata(file)) {
    if (key == "model") its = text;
    if (key == "dtype") dtype = text;
  }
  const char* path = file.path().c_str();
  const std::string own = to_text(model), own_config = own.substr(0, own.find('-') + 1);
  if (its == own) return "";
  if (its.empty()) return format("%s: does not say which model saved it (an older version wrote it); only its shape was checked", path);
  CHECK(its.starts_with(own_config) && dtype != model.dtype,
        "%s: the state is of another model of the same shape (give the model that saved it)", path);
  return format("%s: was saved with weights in %s, these are in %s; only shape and settings of the model were checked", path,
                dtype.c_str(), model.dtype);
}

SavedState read_state_file(const Path& path, const Decoder& decoder, int64_t batch, const std::optional<Fingerprint>& model) {
  const MappedFile mapped(path);
  const auto file = open_safetensors(mapped);
  SavedState saved = {read_state(*file, decoder, batch), {}, {}};
  if (model) saved.note = check_model(mapped, *model);
  if (file->find("logits")) saved.logits = file->get("logits", {batch, decoder.config().vocab}, Dtype::f32).clone();
  return saved;
}

}  // namespace supra
