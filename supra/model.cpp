#include "supra/model.h"

#include "nn/softmax_attention.h"
#include "supra/formats/checkpoint.h"
#include "supra/formats/model_source.h"
#include "supra/supra_attention.h"

namespace supra {

std::shared_ptr<Decoder> make_decoder(const Config& config) {
  check_config(config, "model");
  return std::make_shared<Decoder>(config, [](const Config& c, int64_t layer) -> std::unique_ptr<Mixer> {
    if (c.mixers[layer] == MixerKind::supra) return std::make_unique<SupraAttention>(c);
    return std::make_unique<SoftmaxAttention>(c);
  });
}

static void read_weights(const ModelSource& source, Decoder& decoder) {
  decoder.visit([&](const std::string& name, Var& parameter) {
    const Tensor weights = source.weights->get(name, parameter.shape(), Dtype::f32);
    check_finite(weights, name, source.path);
    parameter.value().copy_from(weights);
  });
}

void load_weights(const Path& path, Decoder& decoder) { read_weights(open_model(path), decoder); }

// A model whose tokenizer cannot be read is still a model: it can be inspected, verified and fed with ids.
static void find_tokenizer_of(Model& model, const Path& path) {
  try {
    model.tokenizer = find_tokenizer(path);
  } catch (const Error& error) {
    model.tokenizer_problem = error.what();
  }
}

Model load_model(const Path& path, const std::string& tokenizer) {
  const ModelSource source = open_model(path);
  Model model;
  model.decoder = make_decoder(source.config);
  model.format = source.format;
  model.notes = source.notes;
  read_weights(source, *model.decoder);
  if (tokenizer.empty()) find_tokenizer_of(model, path);
  else model.tokenizer = load_tokenizer(tokenizer);
  CHECK(!model.tokenizer || model.tokenizer->size() <= model.config().vocab,
        "%s: the tokenizer has %d pieces, the model knows %ld tokens (give the right one with --tokenizer)", path.c_str(),
        model.tokenizer->size(), static_cast<long>(model.config().vocab));
  return model;
}

const Tokenizer& tokenizer_of(const Model& model) {
  CHECK(model.tokenizer, "%s (give one with --tokenizer FILE, or --tokenizer bytes)",
        model.tokenizer_problem.empty() ? "no tokenizer stands beside the model" : model.tokenizer_problem.c_str());
  return *model.tokenizer;
}

void write_model(const Model& model, const Path& directory, Dtype dtype) {
  NamedTensors weights;
  model.decoder->visit([&](const std::string& name, Var& parameter) { weights.push_back({name, parameter.value()}); });
  save_model(directory, model.config(), weights, dtype);
  if (model.tokenizer) copy_tokenizer(*model.tokenizer, directory);
}

// The new directory takes the old one's place: refuse where that would lose more than a model's files.
static void check_replaces(const Path& old, const Path& built) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(old, error)) {
    const Path name = entry.path().filename();
    const bool replaced = exists(built / name) || name.string().starts_with("tokenizer");
    CHECK(replaced, "%s: holds %s, which writing a model there would remove (give another directory)", old.c_str(),
          name.c_str());
  }
}

void save_model(const Model& model, const Path& path, Dtype dtype) {
  NewDirectory directory(path);
  write_model(model, directory.path(), dtype);
  check_replaces(path, directory.path());
  directory.commit();
}

}  // namespace supra
