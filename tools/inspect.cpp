#include <algorithm>
#include <cstdio>
#include <set>
#include <string>

#include "supra/formats/weights/checksums.h"
#include "supra/formats/config/config_json.h"
#include "supra/formats/model_source.h"
#include "supra/formats/weights/packed_model.h"
#include "supra/formats/parameters.h"
#include "supra/model.h"
#include "supra/tokenizers/chat_template.h"
#include "tools/command.h"
#include "tools/human.h"
#include "tools/window_report.h"

namespace supra {
namespace {

// With the words of the flags of supra linearize.
const char* mixer_name(const Config& config, MixerKind kind) {
  if (kind == MixerKind::softmax) return "softmax";
  if (kind == MixerKind::window) return "window";
  if (kind == MixerKind::delta) return "delta";
  switch (config.decay.source) {
    case DecayConfig::Source::fixed:
      return "supra";
    case DecayConfig::Source::learned:
      return "learned-decay";
    case DecayConfig::Source::gated:
      return "gated";
  }
  fail("inspect: unknown decay %d", static_cast<int>(config.decay.source));
}

// The features of a recurrent layer beyond the paper's: ", 32 features a head, an output gate".
std::string mixer_details(const Config& c, MixerKind kind) {
  if (kind == MixerKind::softmax) return "";
  if (kind == MixerKind::window) return format(", %ld sinks, keys and values in %s", static_cast<long>(c.sinks), name(c.state_dtype));
  std::string text;
  if (c.key_dim != c.head_dim) text += format(", %ld features a head", static_cast<long>(c.key_dim));
  if (!c.feature_map && kind == MixerKind::supra) text += ", no feature map";
  if (c.feature_map && kind == MixerKind::delta) text += ", a feature map";
  if (c.short_convolution && kind == MixerKind::delta) text += ", a short convolution";
  if (!c.rotates) text += ", q and k not rotated";
  if (c.per_head_feature_map) text += ", a feature map per head";
  if (c.rope_before_map) text += ", rotated before the map";
  if (c.output_norm == OutputNorm::denominator) text += ", outputs over their sum of weights";
  if (c.output_norm == OutputNorm::none) text += ", outputs without a norm";
  if (c.output_gate) text += ", an output gate";
  return text;
}

std::string stored_type(const TensorInfo& tensor) {
  return tensor.stored.empty() ? name(tensor.dtype) : tensor.stored;
}

// All types in the file: "bf16, f32".
std::string stored_types(const ModelSource& source) {
  std::set<std::string> types;
  for (const TensorInfo& tensor : source.stored) types.insert(stored_type(tensor));
  std::string text;
  for (const std::string& type : types) text += (text.empty() ? "" : ", ") + type;
  return text;
}

void print_summary(const ModelSource& source, int64_t parameters, const std::string& tokenizer) {
  const Config& c = source.config;
  printf("%s\n", source.path.c_str());
  printf("  format      %s, weights %s\n", source.format.c_str(), stored_types(source).c_str());
  printf("  family      %s, %s parameters (%ld)\n", c.family.c_str(),
         format_count(static_cast<double>(parameters)).c_str(), static_cast<long>(parameters));
  printf(
      "  shape       %ld layers, width %ld, %ld heads of %ld (%ld for keys and values), MLP %ld, vocabulary "
      "%ld, context %ld\n",
      static_cast<long>(c.layers), static_cast<long>(c.width), static_cast<long>(c.heads),
      static_cast<long>(c.head_dim), static_cast<long>(c.kv_heads), static_cast<long>(c.mlp_width),
      static_cast<long>(c.vocab), static_cast<long>(c.context));
  for (MixerKind kind : {MixerKind::softmax, MixerKind::supra, MixerKind::delta, MixerKind::window}) {
    const std::string layers = format_layers(layers_with(c, kind));
    if (!layers.empty()) printf("  %-11s layers %s%s\n", mixer_name(c, kind), layers.c_str(), mixer_details(c, kind).c_str());
  }
  for (const std::string& line : describe_windows(c)) printf("              %s\n", line.c_str());
  const auto decoder = describe_decoder(c);
  printf("  state       %s\n", format_state(static_cast<double>(decoder->state_bytes(0)), static_cast<double>(decoder->state_bytes(1))).c_str());
  printf("  tokenizer   %s\n", tokenizer.c_str());
  for (const std::string& note : source.notes) printf("  note        %s\n", note.c_str());
  for (const std::string& name : source.unexpected) printf("  not used    %s\n", name.c_str());
}

void print_checks(const std::vector<CheckedPart>& parts) {
  if (parts.empty()) printf("  checksums   none: packed models carry them (supra convert --to packed)\n");
  for (const CheckedPart& part : parts)
    printf("  %-5s %s\n", part.intact ? "pass" : "FAIL", part.name.c_str());
}

Json to_json(const std::vector<CheckedPart>& parts) {
  Json list = Json::array();
  for (const CheckedPart& part : parts) {
    Json row = Json::object();
    row.set("name", part.name);
    row.set("pass", part.intact);
    list.push(std::move(row));
  }
  return list;
}

std::string describe_chat_template(const std::string& program) {
  if (program.empty()) return "";
  try {
    return std::string(", chat template ") + chat_template_of(program).name();
  } catch (const Error&) {
    return ", a chat template of no known form";
  }
}

std::string describe_tokenizer(const Path& path) {
  try {
    const auto tokenizer = find_tokenizer(path);
    if (!tokenizer) return "none beside the model";
    return format("%s, %d pieces", tokenizer->kind(), tokenizer->size()) +
           describe_chat_template(tokenizer->chat_template());
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace

int run_inspect(Args& args) {
  Path input;
  bool tensors = false, check = false, json = false;
  args.positional(&input, "MODEL", "a folder or a file");
  args.flag(&tensors, "--tensors", "list every tensor");
  args.flag(&check, "--check",
            "compare a packed model with its checksums; exit 1 if they differ");
  common_flags(args, &json);
  args.parse();

  const ModelSource source = open_model(input);
  int64_t parameters = 0;
  for (const TensorInfo& tensor : source.weights->tensors()) parameters += numel(tensor.shape);
  std::vector<CheckedPart> parts;
  if (const MappedFile file(source.path); check && is_packed(file)) parts = check_parts(file);
  const bool intact =
      std::all_of(parts.begin(), parts.end(), [](const CheckedPart& part) { return part.intact; });
  if (json) {
    Json report = Json::object(), list = Json::array();
    for (const TensorInfo& tensor : source.stored) {
      Json row = Json::object(), shape = Json::array();
      for (int64_t size : tensor.shape) shape.push(size);
      row.set("name", tensor.name);
      row.set("shape", std::move(shape));
      row.set("dtype", stored_type(tensor));
      list.push(std::move(row));
    }
    report.set("family", source.config.family);
    report.set("format", source.format);
    report.set("parameters", parameters);
    report.set("layers", source.config.layers);
    report.set("config", describe(source.config));
    report.set("state_bytes", static_cast<int64_t>(describe_decoder(source.config)->state_bytes(1)));
    report.set("tensors", std::move(list));
    if (check) report.set("check", to_json(parts));
    printf("%s\n", report.dump().c_str());
    return intact ? 0 : 1;
  }
  print_summary(source, parameters, describe_tokenizer(input));
  for (const TensorInfo& tensor : source.stored) {
    if (!tensors) break;
    printf("  %-56s %-16s %s\n", tensor.name.c_str(), to_string(tensor.shape).c_str(),
           stored_type(tensor).c_str());
  }
  if (check) print_checks(parts);
  return intact ? 0 : 1;
}

}  // namespace supra
