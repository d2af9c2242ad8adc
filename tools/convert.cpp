#include <algorithm>
#include <cstdio>

#include "supra/formats/checkpoint.h"
#include "supra/formats/export/hf_export.h"
#include "supra/formats/model_source.h"
#include "supra/formats/config/openlm_config.h"
#include "supra/formats/weights/packed_model.h"
#include "supra/formats/weights/safetensors.h"
#include "supra/formats/weights/torch_file.h"
#include "supra/formats/export/transformers_export.h"
#include "supra/model.h"
#include "supra/tokenizers/tokenizer.h"
#include "tensor/quantized.h"
#include "tools/command.h"
#include "tools/human.h"

namespace supra {
namespace {

enum class Layout { hf, openlm, packed, transformers };

// Every tensor in its own dtype. If the layout has no quantised dtypes, these become f32, which has their exact values.
NamedTensors tensors_of(const ModelSource& source, bool keep_quantised) {
  NamedTensors all;
  for (const TensorInfo& info : source.weights->tensors()) {
    const Tensor tensor = source.weights->get(info.name);
    check_finite(tensor, info.name, source.path);
    all.emplace_back(info.name, is_quantized(tensor.dtype()) && !keep_quantised ? tensor.to(Dtype::f32) : tensor);
  }
  return all;
}

// The tensors of a training checkpoint with low-rank factors, which load_model() merges into their matrices.
NamedTensors merged_tensors(const Path& input) {
  NamedTensors all;
  const Model model = load_model(input, "", Weights::stored);
  model.decoder->visit([&](const std::string& name, Var& parameter) { all.emplace_back(name, parameter.value()); });
  return all;
}

// The ids that begin and end a text.
void set_marks(Json& json, const Tokenizer* tokenizer) {
  const auto id = [](int32_t token) { return token >= 0 ? Json(static_cast<int64_t>(token)) : Json(); };
  json.set("bos_token_id", id(tokenizer ? tokenizer->bos() : -1));
  json.set("eos_token_id", id(tokenizer ? tokenizer->eos() : -1));
}

// For training in other programs. The static program, which only runs models, leaves it out.
#if !defined(SUPRA_INFERENCE)
void write_hf(const Path& folder, const Config& config, const NamedTensors& tensors, std::optional<Dtype> dtype, int64_t shard_bytes,
              const Tokenizer* tokenizer) {
  Json json = write_hf_config(config, dtype.value_or(tensors[0].second.dtype()));
  set_marks(json, tokenizer);
  write_file_atomically(folder / "config.json", json.dump(true) + "\n");
  write_sharded_safetensors(folder, hf_weights(config, tensors), dtype, static_cast<uint64_t>(shard_bytes));
}

// A tokenizer's own generation_config.json replaces the one written here.
void write_transformers(const Path& folder, const Config& config, const NamedTensors& tensors, std::optional<Dtype> dtype,
                        int64_t shard_bytes, const Tokenizer* tokenizer) {
  Json json = write_transformers_config(config, dtype.value_or(tensors[0].second.dtype())), generation = Json::object();
  set_marks(json, tokenizer);
  set_marks(generation, tokenizer);
  write_file_atomically(folder / "config.json", json.dump(true) + "\n");
  write_file_atomically(folder / "generation_config.json", generation.dump(true) + "\n");
  write_file_atomically(folder / "modeling_supra.py", modeling_supra());
  write_sharded_safetensors(folder, tensors, dtype, static_cast<uint64_t>(shard_bytes));
}
#endif

// The fields that OpenLM cannot compute: "decay.source gated, output_gate true".
std::string beyond_openlm_in_words(const Config& config) {
  std::string text;
  const Json fields = beyond_openlm(config);
  for (const Json::Member& field : fields.as_object()) {
    text += (text.empty() ? "" : ", ") + field.key + " " + field.value.dump();
  }
  return text;
}

// OpenLM's training loads strictly, and its modules have two names for some weights: a tied output matrix, and an MLP with
// GELU.
NamedTensors with_second_names(const Config& config, const NamedTensors& tensors) {
  NamedTensors all = tensors;
  for (const auto& [name, tensor] : tensors) {
    const size_t mlp = name.find("_ff_w");
    if (config.tied && name == "tok_embeddings.weight") all.emplace_back("output.weight", tensor);
    if (mlp != name.npos) all.emplace_back(name.substr(0, mlp) + (name[mlp + 5] == '1' ? "feed_forward.0" : "feed_forward.2") + name.substr(mlp + 6), tensor);
  }
  return all;
}

// Writes both files that OpenLM's loaders accept; the .pt is like that of its training.
void write_openlm(const Path& folder, const Config& config, const NamedTensors& tensors, std::optional<Dtype> dtype) {
  save_model(folder, config, tensors, dtype);
  write_torch_file(folder / "model.pt", with_second_names(config, tensors), {{"epoch", int64_t{0}}, {"name", "supra"}}, dtype);
}

// Writes a single file, which appears when it is complete.
void write_packed_model(const Path& output, const Config& config, const NamedTensors& tensors, std::optional<Dtype> dtype,
                        const Tokenizer* tokenizer) {
  NamedBytes files;
  if (tokenizer) {
    for (auto& [name, bytes] : tokenizer->files()) files.emplace_back(name, bytes);
  }
  if (output.has_parent_path()) make_directories(output.parent_path());
  const Path built = temporary_path(output);
  write_packed(built, config, tensors, files, dtype);
  replace_file(built, output);
}

void check_output(const Path& output, Layout layout) {
  std::error_code error;
  CHECK(!std::filesystem::exists(output, error) || std::filesystem::is_empty(output, error),
        "%s: exists already (give a new folder with --output)", output.c_str());
  CHECK(layout != Layout::packed || !std::filesystem::is_directory(output, error),
        "%s: is a folder, a packed model is one file (give its name with --output)", output.c_str());
}

}  // namespace

int run_convert(Args& args) {
  Path input, output;
  std::string tokenizer_file;
  Layout layout = Layout::packed;
  std::optional<Dtype> dtype;
  int64_t shard_bytes = int64_t{5} << 30;
  bool json = false;
  args.positional(&input, "MODEL", "a folder or a file");
  args.flag(&output, "--output -o", "DIR", "folder to create, or a file for packed").required();
  args.choice(&layout, "--to",
              {
#if !defined(SUPRA_INFERENCE)
                  {"hf", Layout::hf},
                  {"transformers", Layout::transformers},
#endif
                  {"openlm", Layout::openlm},
                  {"packed", Layout::packed},
              },
              "hf: Hugging Face's layout (softmax models); transformers: a folder with PyTorch code that transformers loads (all models); "
              "openlm: OpenLM's layout (also SUPRA models); packed: one file for supra/supra.h")
      .required();
  args.choice(&dtype, "--dtype", {{"f32", Dtype::f32}, {"f16", Dtype::f16}, {"bf16", Dtype::bf16}},
              "type of all tensors; without it each keeps its own, and quantised ones become f32 (except in packed)");
  args.tokens(&shard_bytes, "--max-shard-bytes", "largest size of a weight file, for hf and transformers");
  args.flag(&tokenizer_file, "--tokenizer", "FILE", "tokenizer to use instead of the one beside the model");
  common_flags(args, &json);
  args.parse();

  check_output(output, layout);
  ModelSource source = open_model(input);
  const bool has_lora = source.config.lora.rank > 0;
  if (has_lora) source.notes.push_back("low-rank factors (LoRA) are merged into their matrices");
  source.config.lora = {};
  // before any weight is read: refuses a model that the layout cannot express
#if !defined(SUPRA_INFERENCE)
  if (layout == Layout::hf) hf_model_type(source.config);
#endif
  const std::string beyond = layout == Layout::openlm ? beyond_openlm_in_words(source.config) : "";
  const auto& mixers = source.config.mixers;
  const auto softmax = std::count(mixers.begin(), mixers.end(), MixerKind::softmax);
  CHECK(beyond.empty() || softmax == static_cast<int64_t>(mixers.size()),
        "%s: linear_open_lm has no recurrent model with %s (this program reads it as it is; supra quantize "
        "changes its dtype)",
        input.c_str(), beyond.c_str());
  const auto tokenizer = tokenizer_file.empty() ? find_tokenizer(input) : load_tokenizer(tokenizer_file);
  const NamedTensors tensors = has_lora ? merged_tensors(input) : tensors_of(source, layout == Layout::packed);
  if (layout == Layout::packed) {
    write_packed_model(output, source.config, tensors, dtype, tokenizer.get());
  } else {
    NewDirectory directory(output);
    if (layout == Layout::openlm) write_openlm(directory.path(), source.config, tensors, dtype);
#if !defined(SUPRA_INFERENCE)
    if (layout == Layout::hf) write_hf(directory.path(), source.config, tensors, dtype, shard_bytes, tokenizer.get());
    if (layout == Layout::transformers) write_transformers(directory.path(), source.config, tensors, dtype, shard_bytes, tokenizer.get());
#endif
    if (tokenizer) copy_tokenizer(*tokenizer, directory.path());
    directory.commit();
  }

  std::string family = layout == Layout::openlm ? "openlm" : layout == Layout::transformers ? "supra" : "packed";
#if !defined(SUPRA_INFERENCE)
  if (layout == Layout::hf) family = hf_model_type(source.config);
#endif
  if (json) {
    Json report = Json::object();
    report.set("output", output.string());
    report.set("model_type", family);
    report.set("tensors", static_cast<int64_t>(tensors.size()));
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  for (const std::string& note : source.notes) printf("note    %s\n", note.c_str());
  if (!beyond.empty())
    printf("note    OpenLM would compute another model, it does not know %s\n", beyond.c_str());
  for (const std::string& name : source.unexpected) printf("left    %s is no weight of this model\n", name.c_str());
  printf("wrote   %s (%s, %zu tensors%s)\n", output.c_str(), family.c_str(), tensors.size(), tokenizer ? ", tokenizer" : ", no tokenizer was found");
  return 0;
}

}  // namespace supra
