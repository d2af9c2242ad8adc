#include <cstdio>
#include <map>

#include "supra/evaluation/perplexity.h"
#include "supra/formats/parse/json.h"
#include "supra/model.h"
#include "tools/command.h"
#include "tools/device_flags.h"
#include "tools/human.h"

namespace supra {
namespace {

// The bytes of a model's parameters by dtype.
std::map<std::string, int64_t> bytes_by_dtype(Decoder& decoder) {
  std::map<std::string, int64_t> bytes;
  decoder.visit(
      [&](const std::string&, Var& p) { bytes[name(p.dtype())] += static_cast<int64_t>(p.value().bytes()); });
  return bytes;
}

Json to_json(const std::map<std::string, int64_t>& bytes) {
  Json json = Json::object();
  for (const auto& [dtype, n] : bytes) json.set(dtype, n);
  return json;
}

void print(const char* what, const std::map<std::string, int64_t>& bytes) {
  int64_t sum = 0;
  std::string parts;
  for (const auto& [dtype, n] : bytes) {
    sum += n;
    parts += format("%s %s %s", parts.empty() ? "" : ",", dtype.c_str(),
                    format_bytes(static_cast<double>(n)).c_str());
  }
  printf("%-8s%s  (%s )\n", what, format_bytes(static_cast<double>(sum)).c_str(), parts.c_str());
}

}  // namespace

int run_quantize(Args& args) {
  Path input, output, text;
  std::string tokenizer;
  Dtype dtype = Dtype::q8_0;
  TextOptions options;
  options.max_tokens = 20000;
  bool json = false;
  // the differences to measure are smaller than bf16 rounding
  DeviceFlags device{.activations = Dtype::f32};
  args.positional(&input, "MODEL", "a folder or a file");
  args.flag(&output, "--output -o", "DIR", "folder of the new model").required();
  args.choice(&dtype, "--dtype",
              {{"q8_0", Dtype::q8_0},
               {"q4_0", Dtype::q4_0},
               {"q4_1", Dtype::q4_1},
               {"bf16", Dtype::bf16},
               {"f16", Dtype::f16},
               {"f32", Dtype::f32}},
              "type of the matrices; norms, decays and feature maps stay f32");
  args.flag(&text, "--check", "TEXT",
            "text to score before and after, in windows of the model's context, at most 2048");
  args.tokens(&options.max_tokens, "--max-tokens", "number of ids of the text to score; 0: all");
  args.flag(&tokenizer, "--tokenizer", "FILE", "tokenizer to use instead of the one beside the model");
  device.declare(args);
  common_flags(args, &json);
  args.parse();
  device.check(args);

  std::error_code absent;
  CHECK(!std::filesystem::equivalent(input, output, absent),
        "%s: is the model itself, and would be overwritten (give another --output)", output.c_str());
  Model model = load_model(input, tokenizer, Weights::stored);
  std::vector<std::vector<int32_t>> sequences;
  Perplexity before, after;
  const auto score = [&] {
    device.move(*model.decoder);
    return evaluate(*model.decoder, sequences);
  };
  if (!text.empty()) {
    options.context = default_context(model.config());
    options.bos = tokenizer_of(model).adds_bos();
    sequences = read_sequences(tokenizer_of(model), text, options);
    before = score();
    model.decoder->to(Device::cpu);
  }
  const auto old_bytes = bytes_by_dtype(*model.decoder);
  const std::vector<std::string> kept = quantize(*model.decoder, dtype);
  const auto new_bytes = bytes_by_dtype(*model.decoder);
  save_model(model, output, std::nullopt);
  if (!text.empty()) after = score();

  if (json) {
    Json report = Json::object(), list = Json::array();
    for (const std::string& name : kept) list.push(name);
    report.set("parameters", model.decoder->parameter_count());
    report.set("bytes_before", to_json(old_bytes));
    report.set("bytes", to_json(new_bytes));
    report.set("kept_bf16", std::move(list));
    if (!text.empty()) {
      report.set("tokens", after.tokens);
      report.set("nll_before", before.nll);
      report.set("nll", after.nll);
      report.set("stderr", after.error);
      report.set("context", options.context);
    }
    report.set("output", output.string());
    printf("%s\n", report.dump().c_str());
    return 0;
  }
  print("before", old_bytes);
  print("after", new_bytes);
  for (const std::string& matrix : kept) printf("bf16    %s: its rows are no multiple of 32\n", matrix.c_str());
  if (!text.empty()) {
    printf("nll     %.4f +- %.4f before, %.4f +- %.4f after, %+.4f  (%s tokens)\n", before.nll, before.error, after.nll, after.error,
           after.nll - before.nll, format_count(static_cast<double>(after.tokens)).c_str());
  }
  printf("wrote   %s\n", output.c_str());
  return 0;
}

}  // namespace supra
