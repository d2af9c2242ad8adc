#include "supra/model.h"

#include <algorithm>

#include "supra/formats/checkpoint.h"
#include "supra/formats/model_source.h"
#include "supra/formats/weights/packed_model.h"
#include "supra/formats/parameters.h"
#include "supra/tokenizers/tokenizer_files.h"
#include "tensor/quantized.h"

namespace supra {

std::shared_ptr<Decoder> make_decoder(const Config& config) {
  const auto decoder = describe_decoder(config);
  decoder->allocate();
  return decoder;
}

int64_t position_limit(const Config& config) {
  return has_mixer(config, MixerKind::softmax) ? config.context : 0;
}

static void read_weights(const ModelSource& source, Decoder& decoder) {
  decoder.visit([&](const std::string& name, Var& parameter) {
    const Tensor weights = source.weights->get(name, parameter.shape(), Dtype::f32);
    check_finite(weights, name, source.path);
    parameter.value().copy_from(weights);
  });
}

void load_weights(const Path& path, Decoder& decoder) {
  const ModelSource source = open_model(path);
  const LoraConfig &stored = source.config.lora, &here = decoder.config().lora;
  CHECK(stored == here, "%s: has LoRA of rank %ld, alpha %g, this model %ld, %g, on the same or other matrices (give the same --lora flags)",
        path.c_str(), static_cast<long>(stored.rank), stored.alpha, static_cast<long>(here.rank), here.alpha);
  read_weights(source, decoder);
}

// Matrices that are multiplied or looked up as they are stored. The rest of a model is small, and f32.
static bool is_plain_matrix(const std::string& name, const Var& parameter) {
  const bool is_small = name_matches(name, {"_totrain_embed", "_totrain_decay", "_totrain_far", "_totrain_beta", "_totrain_conv"});
  return parameter.shape().size() == 2 && !is_small;
}

static void map_weights(const ModelSource& source, Decoder& decoder) {
  decoder.visit([&](const std::string& name, Var& parameter) {
    const Tensor weights = source.weights->get(name);
    check_shape("model", name.c_str(), weights.shape(), parameter.shape());
    check_finite(weights, name, source.path);
    const bool multiplied = is_quantized(weights.dtype()) || (is_floating(weights.dtype()) && weights.dtype() != Dtype::f64);
    parameter = Var(multiplied && is_plain_matrix(name, parameter) ? weights : weights.to(Dtype::f32));
  });
}

std::vector<std::string> quantize(Decoder& decoder, Dtype dtype) {
  std::vector<std::string> kept;
  decoder.visit([&](const std::string& name, Var& parameter) {
    if (!is_plain_matrix(name, parameter)) return;
    const bool whole = !is_quantized(dtype) || parameter.dim(1) % kBlock == 0;
    if (!whole) kept.push_back(name);
    parameter = Var(parameter.value().to(whole ? dtype : Dtype::bf16));
  });
  return kept;
}

void place_for_inference(Decoder& decoder, Device device, Dtype activations) {
  decoder.visit([&](const std::string& name, Var& parameter) {
    if (activations != Dtype::bf16 || parameter.dtype() != Dtype::f32 || !is_plain_matrix(name, parameter)) return;
    parameter = Var(parameter.value().to(Dtype::bf16));
  });
  decoder.to(device, activations);
}

// Finds a model's tokenizer unless one was named. A model whose tokenizer cannot be read is still a model: it can be inspected,
// verified and fed with ids.
template <class F>
static void add_tokenizer(Model& model, const Path& path, F find) {
  try {
    if (!model.tokenizer) model.tokenizer = find();
  } catch (const Error& error) {
    model.tokenizer_problem = error.what();
  }
  CHECK(!model.tokenizer || model.tokenizer->size() <= model.config().vocab,
        "%s: the tokenizer has %d pieces, the model's vocabulary %ld tokens (%s)", path.c_str(), model.tokenizer->size(),
        static_cast<long>(model.config().vocab), kNameTokenizer);
}

static Model build_model(const ModelSource& source, Weights weights) {
  Model model;
  model.format = source.format;
  model.notes = source.notes;
  if (weights == Weights::trainable) {
    model.decoder = make_decoder(source.config);
    read_weights(source, *model.decoder);
  } else {
    model.decoder = describe_decoder(source.config);
    map_weights(source, *model.decoder);
  }
  // before anything is computed: another machine may round a sum differently
  model.fingerprint = fingerprint_of(*model.decoder, model.decoder->state_bytes(0));
  if (model.decoder->merge_lora()) model.notes.push_back("low-rank factors (LoRA) are merged into their matrices");
  model.folded = weights == Weights::folded && model.decoder->fold();
  return model;
}

Model load_model(const Path& path, const std::string& tokenizer, Weights weights) {
  Model model = build_model(open_model(path), weights);
  if (!tokenizer.empty()) model.tokenizer = load_tokenizer(tokenizer);
  add_tokenizer(model, path, [&] { return find_tokenizer(path); });
  return model;
}

Model load_model(const MappedFile& packed, Weights weights) {
  Model model = build_model(open_packed(packed), weights);
  add_tokenizer(model, packed.path(), [&] { return find_tokenizer(PackedFiles(packed)); });
  return model;
}

const Tokenizer& tokenizer_of(const Model& model) {
  CHECK(model.tokenizer, "%s (%s)",
        model.tokenizer_problem.empty() ? "there is no tokenizer beside the model" : model.tokenizer_problem.c_str(),
        kNameTokenizer);
  return *model.tokenizer;
}

void write_model(const Model& model, const Path& directory, std::optional<Dtype> dtype) {
  CHECK(!model.folded, "%s: a model with folded feature maps is for inference and cannot be saved (load it as stored)",
        directory.c_str());
  NamedTensors weights;
  model.decoder->visit([&](const std::string& name, Var& parameter) { weights.push_back({name, parameter.value()}); });
  save_model(directory, model.config(), weights, dtype);
  if (model.tokenizer) copy_tokenizer(*model.tokenizer, directory);
}

// The new directory replaces the old one. Throws Error if that would remove more than a model's files.
static void check_replaces(const Path& old, const Path& built) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(old, error)) {
    const Path name = entry.path().filename();
    const auto* const end = std::end(kTokenizerFiles);
    const bool replaced = exists(built / name) || std::find(std::begin(kTokenizerFiles), end, name.string()) != end;
    CHECK(replaced, "%s: holds %s, which writing a model there would remove (give another directory)", old.c_str(),
          name.c_str());
  }
}

void save_model(const Model& model, const Path& path, std::optional<Dtype> dtype) {
  NewDirectory directory(path);
  write_model(model, directory.path(), dtype);
  check_replaces(path, directory.path());
  directory.commit();
}

}  // namespace supra
